// Package tarsplit writes, reads and replays tar-split files, in the form of
// github.com/vbatts/tar-split: what is left of a tar when the files' contents are taken
// out. Together with the layer's files such a file gives the tar back, byte for byte.
package tarsplit
