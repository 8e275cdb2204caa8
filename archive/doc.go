// Package archive carries the files of a layer between a tar stream and a directory.
package archive
