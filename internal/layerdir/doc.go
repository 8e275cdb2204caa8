// Package layerdir reads the tree of a layer. Everything goes by descriptor, one name
// below an open directory at a time; links are never followed unless the caller asks for
// a lookup inside a root. The content of a container's layer may change under our hands,
// and whoever changes it may wish us ill, so no path is ever resolved from the host's
// root.
package layerdir
