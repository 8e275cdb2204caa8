// Package readahead makes a stream of many small files with several goroutines, in order.
//
// Reading tens of thousands of small files one after another leaves a second processor
// idle and waits on every inode. Here a producer names the pieces of a stream in order,
// several workers turn them into bytes at the same time, and the bytes go out in the
// order of the pieces. Memory is bounded by the workers' chunks, however large a file or
// a stream is.
package readahead
