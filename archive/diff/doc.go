// Package diff says what a layer has changed: as a list of paths, and as the tar that
// makes the layer out of its parent.
//
// There are three ways to find out. Where an overlay upper directory tells everything, it
// is read alone (OverlayChanges, WriteOverlay), so that the time follows the size of the
// change. Where it holds redirects, metacopies or the books of a mount program, it tells
// which names to look at, and the mounted layer what stands there (MergedChanges,
// WriteMerged). Else two whole trees are compared (TreeChanges, WriteTree).
//
// The same tree gives the same bytes, and those that containers/storage gives.
package diff
