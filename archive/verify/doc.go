// Package verify compares a layer's directory with the tar that it came from. It is for
// check and repair; nothing that imports or mounts layers links it.
//
// The tar is put together as package tarsplit does it, and read into the tree that its
// members describe. The directory is then walked beside that tree.
package verify
