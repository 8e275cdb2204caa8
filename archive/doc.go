// Package archive holds what its stories share: how a layer's tar and an overlay
// directory write down that a lower file is absent, how a store with a force mask keeps
// what a file really is, and how much a layer may ask for.
//
// The stories are the packages below it:
//
//   - apply takes a tar apart: a stream becomes the files of a layer, and a tar-split
//     file.
//   - tarsplit puts the very same stream together again, from that file and the layer.
//   - diff makes lists and tars of what a layer has changed.
//   - verify compares a layer's directory with the tar that it came from.
//   - compress knows streams by their first bytes.
//
// They import each other downwards only: apply, diff and verify know nothing of one
// another, tarsplit and compress nothing of those three.
package archive
