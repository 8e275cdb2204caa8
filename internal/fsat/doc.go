// Package fsat works on file trees by descriptor: removing them, copying them, syncing
// them.
//
// A tree is reached once by path, and from there on only by openat(2) and its relatives,
// one name at a time, without ever following a symlink or crossing a mount. What is in
// the tree may therefore be hostile, and may change under our hands. Every file of a
// store's layers is somebody else's choice: names of any bytes, depths beyond PATH_MAX,
// modes that lock everyone out.
package fsat
