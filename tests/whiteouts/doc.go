// Package whiteouts compares what random chains of layers become, on both drivers, with
// what the image specification says (layer.md, "Whiteouts"): mounts, lists of changes,
// diffs, and what these become when they are imported again.
package whiteouts
