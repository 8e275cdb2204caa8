// Package tarstream reads a tar as a stream that several goroutines share: one reads and
// hashes what comes in, one decompresses, one hashes what comes out, and one walks the
// members. What it accepts is what Go's archive/tar accepts.
package tarstream
