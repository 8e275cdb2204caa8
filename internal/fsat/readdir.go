package fsat

import (
	"github.com/shalestore/shale/internal/dirent"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// eachName calls fn for every name of a directory, and stops at fn's first error.
func eachName(fd int, fn func(name string) error) error {
	for {
		list, n, err := dirent.Read(fd, nil)
		if err != nil || n == 0 {
			return err
		}
		for _, e := range list {
			if err := fn(e.Name); err != nil {
				return err
			}
		}
	}
}

// openDir opens a directory below top by a path of any length.
func openDir(top int, rel string) (int, error) {
	return openat.SameMount(top, rel, unix.O_RDONLY|unix.O_DIRECTORY)
}
