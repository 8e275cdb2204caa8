// Shale keeps the layers, images and containers of a Linux host in the on-disk format
// that Podman, Buildah, Skopeo and CRI-O share.
//
// This is its command line. One file is one command, or one family of commands that
// differ only in a word; root.go lists them all. The commands, their flags and what they
// print into a pipe are those of the containers-storage program, so that scripts written
// for it run unchanged. Only this package prints and exits.
package main

import (
	"os"

	"github.com/shalestore/shale/idtools"
)

func main() {
	if err := idtools.Child(os.Args); err != nil {
		os.Exit(1) // the first process of a user namespace; its parent says what is wrong
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
