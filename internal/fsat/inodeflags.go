package fsat

import (
	"errors"

	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// The inode flags that forbid unlinking, see FS_IOC_SETFLAGS(2const): on a file, and on
// the directory that names it.
const forbidUnlink = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND

// clearFlags takes the immutable and the append-only flag off an open file or directory;
// it reports whether one was set.
func clearFlags(fd int) (bool, error) {
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil // a file system without flags
	}
	if err != nil {
		return false, err
	}
	const immutable, appendOnly = 0x10, 0x20 // FS_IMMUTABLE_FL, FS_APPEND_FL of linux/fs.h
	if flags&(immutable|appendOnly) == 0 {
		return false, nil
	}
	return true, unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^(immutable|appendOnly))
}

// clearFlagsBelow does it for a name of a directory. It opens only what statx(2) says has
// a flag to clear, because opening a device or a FIFO does something.
func clearFlagsBelow(parent int, name string) (bool, error) {
	var stx unix.Statx_t
	err := retry(func() error {
		return unix.Statx(parent, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &stx)
	})
	if err != nil {
		return false, err
	}
	typ := stx.Mode & unix.S_IFMT
	if stx.Attributes&forbidUnlink == 0 || typ != unix.S_IFREG && typ != unix.S_IFDIR {
		return false, nil
	}
	fd, err := openat.At(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	return clearFlags(fd)
}
