package fsat

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// The order in which attributes are set matters: chown clears setuid bits and file
// capabilities, chmod changes the mask of an ACL, and everything changes times.

// dirAttributes finishes a directory, after its content: a default ACL would be
// inherited, and a new entry changes mtime.
func (c *copier) dirAttributes(from, to int, st *unix.Stat_t) error {
	return c.setAttributes(to, from, st)
}

// setAttributes copies owner, mode, times as in st, and the extended attributes of from
// unless that is -1.
func (c *copier) setAttributes(to, from int, st *unix.Stat_t) error {
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	if from >= 0 {
		if err := copyXattrs("/proc/self/fd/"+strconv.Itoa(from), "/proc/self/fd/"+strconv.Itoa(to), true); err != nil {
			return err
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(to), times, 0)
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
	if err := copyXattrs(fdPath(from, name), fdPath(to, name), false); err != nil {
		return err
	}
	return unix.UtimesNanoAt(to, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// copyXattrs copies all extended attributes that this process may see. follow says
// whether the paths are magic links to open files, or end in the very name that is meant.
func copyXattrs(from, to string, follow bool) error {
	list, get, set := unix.Llistxattr, unix.Lgetxattr, unix.Lsetxattr
	if follow {
		list, get, set = unix.Listxattr, unix.Getxattr, unix.Setxattr
	}
	names, err := sized(func(buf []byte) (int, error) { return list(from, buf) })
	if errors.Is(err, unix.EOPNOTSUPP) || len(names) == 0 && err == nil {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		attr := string(name)
		value, err := sized(func(buf []byte) (int, error) { return get(from, attr, buf) })
		if errors.Is(err, unix.ENODATA) {
			continue // gone meanwhile
		}
		if err != nil {
			return xattrError("read", attr, err)
		}
		if err := set(to, attr, value, 0); err != nil {
			if have, gerr := sized(func(buf []byte) (int, error) {
				return get(to, attr, buf)
			}); gerr == nil && bytes.Equal(have, value) {
				continue // a label that the kernel assigns and nobody may set
			}
			return xattrError("set", attr, err)
		}
	}
	return nil
}

// sized calls an xattr function first with a small buffer and then with one of the size
// it asks for; the kernel's limit for a value and for a list is 64 KiB.
func sized(call func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	n, err := call(buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10)
		n, err = call(buf)
	}
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

func xattrError(verb, attr string, err error) error {
	return fmt.Errorf("%s xattr %s: %w", verb, attr, err)
}
