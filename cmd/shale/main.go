// Shale keeps the layers, images and containers of a Linux host in the on-disk format
// that Podman, Buildah, Skopeo and CRI-O share.
//
// This is its command line. It speaks two grammars. Called as containers-storage, or as
// "shale storage", it takes that program's commands and flags, prints what it prints and
// exits as it does, so that scripts written for it run unchanged. Called as shale it
// speaks its own: see exit.go for the exit status and format.go for what it prints.
//
// One file is one command, or one family of commands that differ only in a word. verbs.go
// lists them all, with the grammars that have them. Both grammars share a command's work
// and differ in its flags and its output. Only this package prints and exits.
package main

import (
	"os"

	"github.com/shalestore/shale/idtools/userns"
)

func main() {
	if err := userns.Child(os.Args); err != nil {
		os.Exit(1) // the first process of a user namespace; its parent says what is wrong
	}
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}
