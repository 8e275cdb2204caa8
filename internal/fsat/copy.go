package fsat

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// CopyTree copies the content of the directory src, and its own attributes, into the
// existing empty directory dst. Everything is preserved: types, owners, modes, times in
// nanoseconds, extended attributes, hard links within the tree, device numbers (whiteouts
// among them) and holes. Where the file system can share extents (XFS, btrfs, bcachefs)
// no data is copied at all. What is mounted below src is not entered: its mount point
// comes out as an empty directory.
//
// Sockets are copied as sockets that nobody listens on. Inode flags and project IDs are
// not copied. After an error dst holds a part of the tree; the caller removes it.
func CopyTree(ctx context.Context, src, dst string) error {
	from, err := openat.At(unix.AT_FDCWD, src, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return &os.PathError{Op: "open", Path: src, Err: err}
	}
	defer unix.Close(from)
	to, err := openat.At(unix.AT_FDCWD, dst, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return &os.PathError{Op: "open", Path: dst, Err: err}
	}
	defer unix.Close(to)
	// dst may have inherited ACLs from its parent: one of its own, and one for all that
	// is made in it.
	for _, acl := range []string{xattr.AccessACL, xattr.DefaultACL} {
		if err := xattr.Open(to).Remove(acl); err != nil {
			return fmt.Errorf("remove %s of %s: %w", acl, dst, err)
		}
	}
	c := &copier{ctx: ctx, from: from, to: to, links: map[inode]string{}, xattrs: xattr.NewReader(), canClone: true}
	if err := c.run(); err != nil {
		return fmt.Errorf("copy %s to %s: %w", src, dst, err)
	}
	return nil
}

type inode struct{ dev, ino uint64 }

// copier is one call of CopyTree.
type copier struct {
	ctx      context.Context
	from, to int
	links    map[inode]string // where the first name of a file with several was made, from the top of the tree
	later    []string         // directories too deep to be reached by recursion, from the top
	xattrs   *xattr.Reader
	canClone bool
}

func (c *copier) run() error {
	var st unix.Stat_t
	if err := unix.Fstat(c.from, &st); err != nil {
		return err
	}
	if err := c.content(c.from, c.to, "", 0); err != nil {
		return err
	}
	if err := c.setAttributes(c.to, c.from, &st); err != nil {
		return err
	}
	for len(c.later) > 0 {
		rel := c.later[len(c.later)-1]
		c.later = c.later[:len(c.later)-1]
		if err := c.deep(rel); err != nil {
			return fmt.Errorf("%s: %w", strconv.Quote(rel), err)
		}
	}
	return nil
}

// deep copies a directory that was put off, with its attributes. Its parents are finished
// already, which is fine: they only saw it being made.
func (c *copier) deep(rel string) error {
	from, err := openDir(c.from, rel)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := openDir(c.to, rel)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if err := c.content(from, to, rel, 0); err != nil {
		return err
	}
	return c.setAttributes(to, from, &st)
}

// content copies all entries of a directory.
func (c *copier) content(from, to int, rel string, depth int) error {
	return eachName(from, func(name string) error {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.entry(from, to, name, filepath.Join(rel, name), depth); err != nil {
			return fmt.Errorf("%s: %w", strconv.Quote(name), err)
		}
		return nil
	})
}

func (c *copier) entry(from, to int, name, rel string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	typ := st.Mode & unix.S_IFMT
	if typ == unix.S_IFDIR {
		return c.dir(from, to, name, rel, &st, depth)
	}
	id := inode{uint64(st.Dev), st.Ino}
	if st.Nlink > 1 {
		if first, ok := c.links[id]; ok {
			return c.link(first, to, name)
		}
	}
	var err error
	switch typ {
	case unix.S_IFREG:
		err = c.regular(from, to, name, &st)
	case unix.S_IFLNK:
		err = c.symlink(from, to, name, &st)
	default:
		if err = unix.Mknodat(to, name, typ|0o600, int(st.Rdev)); err == nil {
			err = c.namedAttributes(from, to, name, &st)
		}
	}
	if err == nil && st.Nlink > 1 {
		c.links[id] = rel
	}
	return err
}

func (c *copier) dir(from, to int, name, rel string, st *unix.Stat_t, depth int) error {
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	if depth >= maxOpenDepth {
		c.later = append(c.later, rel)
		return nil
	}
	out, err := openat.Dir(to, name)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	in, err := openat.Dir(from, name)
	if errors.Is(err, unix.EXDEV) { // a mount point: keep the directory, leave what is mounted
		return c.setAttributes(out, -1, st)
	}
	if err != nil {
		return err
	}
	defer unix.Close(in)
	if err := c.content(in, out, rel, depth+1); err != nil {
		return err
	}
	return c.setAttributes(out, in, st)
}

// link gives a file that has been copied its next name.
func (c *copier) link(first string, to int, name string) error {
	dir, base := filepath.Split(first)
	fd, err := openDir(c.to, dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Linkat(fd, base, to, name, 0)
}

func (c *copier) symlink(from, to int, name string, st *unix.Stat_t) error {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(from, name, target)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(target[:n]), to, name); err != nil {
		return err
	}
	return c.namedAttributes(from, to, name, st)
}
