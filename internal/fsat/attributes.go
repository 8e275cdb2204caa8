package fsat

import (
	"bytes"
	"fmt"

	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// The order in which attributes are set matters: chown clears setuid bits and file
// capabilities, chmod changes the mask of an ACL, and everything changes times.

// setAttributes copies owner, mode, times as in st, and the extended attributes of from
// unless that is -1. A directory's come after its content: a default ACL would be
// inherited, and a new entry changes mtime.
func (c *copier) setAttributes(to, from int, st *unix.Stat_t) error {
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	if from >= 0 {
		if err := c.copyXattrs(xattr.Open(from), xattr.Open(to)); err != nil {
			return err
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, openat.ProcPath(to), times, 0)
}

// namedAttributes does the same for what can't be opened without a side effect: symlinks,
// devices, FIFOs, sockets.
func (c *copier) namedAttributes(from, to int, name string, st *unix.Stat_t) error {
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		// fchmodat(2) follows symlinks; this name is not one unless someone swaps it in a
		// directory that only we know of.
		if err := unix.Fchmodat(to, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	if err := c.copyXattrs(xattr.At(from, name), xattr.At(to, name)); err != nil {
		return err
	}
	return unix.UtimesNanoAt(to, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// copyXattrs copies all extended attributes that this process may see.
func (c *copier) copyXattrs(from, to xattr.File) error {
	names, err := c.xattrs.List(from)
	if err != nil {
		return err
	}
	for len(names) > 0 {
		var raw []byte
		raw, names = xattr.Next(names)
		name := string(raw)
		value, there, err := c.xattrs.Get(from, name)
		if err != nil {
			return err
		}
		if !there {
			continue // gone meanwhile
		}
		if err := to.Set(name, value, 0); err != nil {
			if have, there, gerr := xattr.NewReader().Get(to, name); there && gerr == nil && bytes.Equal(have, value) {
				continue // a label that the kernel assigns and nobody may set
			}
			return xattrError(name, err)
		}
	}
	return nil
}

func xattrError(name string, err error) error { return fmt.Errorf("set xattr %s: %w", name, err) }
