// Package containers keeps the records of containers and the data items beside them.
//
// A container is a writable layer with an owner: its record ties the layer to the image
// it came from and to the settings it is mounted with. The layer itself is the business
// of package layers, and keeping the two in step that of package store.
//
// Records are in containers.json, or in volatile-containers.json for containers that need
// not outlive a crash: that file is never synced. With a transient store every container
// is volatile, and both the file and containers.lock lie in the run root.
package containers
