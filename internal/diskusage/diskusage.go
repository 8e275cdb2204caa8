// Package diskusage counts what a directory tree holds.
package diskusage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxOpen is how many directories stay open on the way down. Beneath that depth a
// directory is closed while its children are counted, and found again through "..".
const maxOpen = 128

// Tree is what a directory tree holds. What has several names counts once.
type Tree struct {
	Size      int64 // the sum in bytes of the sizes of everything but directories: what is to be read
	Allocated int64 // the bytes of disk that everything takes, directories included: what df counts
	Inodes    int64
}

// Count measures a tree, dir itself included. Nothing beneath dir is reached through a
// path, no symlink is followed and nothing that is mounted in the tree is entered.
//
// The tree may change meanwhile: what vanishes isn't counted. dir itself may be a
// symlink.
func Count(ctx context.Context, dir string) (Tree, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Tree{}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return Tree{}, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	c := &counter{ctx: ctx, dev: st.Dev, seen: map[uint64]struct{}{}}
	c.add(&st)
	fd, err = c.dir(fd, 0)
	if fd >= 0 {
		unix.Close(fd)
	}
	if err != nil {
		return Tree{}, fmt.Errorf("count %s: %w", dir, err)
	}
	return c.Tree, nil
}

type counter struct {
	Tree
	ctx  context.Context
	dev  uint64
	seen map[uint64]struct{} // inodes with several names
}

func (c *counter) add(st *unix.Stat_t) {
	c.Inodes++
	c.Allocated += Allocated(st)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		c.Size += st.Size
	}
}

// Allocated is how many bytes of disk a file takes. st_blocks is in units of 512 bytes
// whatever the file system's block is (stat(2)).
func Allocated(st *unix.Stat_t) int64 { return st.Blocks * 512 }

// dir counts what is in the directory fd. It returns a descriptor of the same directory,
// perhaps another one, or -1 when the directory can't be found again.
func (c *counter) dir(fd, depth int) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return fd, err
	}
	subdirs, err := c.entries(fd)
	if err != nil {
		return fd, err
	}
	for _, name := range subdirs {
		child, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // gone or replaced meanwhile
		}
		if err != nil {
			return fd, fmt.Errorf("%s: %w", name, err)
		}
		if depth < maxOpen {
			child, err = c.dir(child, depth+1)
		} else {
			fd, child, err = c.dirAndBack(fd, child, depth)
		}
		if child >= 0 {
			unix.Close(child)
		}
		if err != nil || fd < 0 {
			return fd, err
		}
	}
	return fd, nil
}

// dirAndBack counts a child with its parent closed, and returns the parent opened anew.
func (c *counter) dirAndBack(parent, child, depth int) (newParent, newChild int, err error) {
	var before, after unix.Stat_t
	if err := unix.Fstat(parent, &before); err != nil {
		return parent, child, err
	}
	unix.Close(parent)
	child, err = c.dir(child, depth+1)
	if err != nil || child < 0 {
		return -1, child, err
	}
	parent, err = unix.Openat(child, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, child, nil // the child was removed; so nothing leads back
	}
	if err := unix.Fstat(parent, &after); err != nil || after.Ino != before.Ino || after.Dev != before.Dev {
		unix.Close(parent)
		return -1, child, nil // it was moved elsewhere
	}
	return parent, child, nil
}

// entries counts what is directly in a directory and returns the names of the directories
// in it.
func (c *counter) entries(fd int) (subdirs []string, err error) {
	// A descriptor of its own, whose position nobody shares.
	list, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(list), "directory")
	defer f.Close()
	for {
		names, err := f.Readdirnames(1024)
		for _, name := range names {
			isDir, err := c.entry(fd, name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if isDir {
				subdirs = append(subdirs, name)
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ENOENT) {
			return subdirs, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// entry counts one name and reports whether it is a directory to go into.
func (c *counter) entry(fd int, name string) (isDir bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT); err != nil {
		if err == unix.ENOENT {
			return false, nil
		}
		return false, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if st.Dev != c.dev {
			c.Inodes++ // what covers the directory has sizes of its own
			return false, nil
		}
		c.add(&st)
		return true, nil
	}
	if st.Nlink > 1 {
		if _, known := c.seen[st.Ino]; known {
			return false, nil
		}
		c.seen[st.Ino] = struct{}{}
	}
	c.add(&st)
	return false, nil
}
