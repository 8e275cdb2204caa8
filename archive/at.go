package archive

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// Everything that reads a layer's tree goes through these calls: one name below an open
// directory at a time, links never followed unless the caller asks for a lookup inside a
// root. The content of a container's layer may change under our hands, and whoever
// changes it may wish us ill, so no path is ever resolved from the host's root.

// dirRef is an open directory that several goroutines use. It closes itself when the last
// of them has released it.
type dirRef struct {
	fd   int
	refs atomic.Int32
}

func newDirRef(fd int) *dirRef {
	d := &dirRef{fd: fd}
	d.refs.Store(1)
	return d
}

func (d *dirRef) retain() *dirRef {
	d.refs.Add(1)
	return d
}

func (d *dirRef) release() {
	if d.refs.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}

// openRoot opens a directory that the caller names: the one place where a path is
// resolved as the host sees it.
func openRoot(path string) (*dirRef, error) {
	fd, err := openat.At(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open directory %s: %w", path, err)
	}
	return newDirRef(fd), nil
}

// openDirAt opens the directory name below dirfd for reading. A link in its place is an
// error (ENOTDIR).
func openDirAt(dirfd int, name string) (int, error) {
	return openat.At(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NOATIME)
}

func statAt(dirfd int, name string, st *unix.Stat_t) error {
	for {
		err := unix.Fstatat(dirfd, name, st, unix.AT_SYMLINK_NOFOLLOW)
		if err != unix.EINTR {
			return err
		}
	}
}

func readlinkAt(dirfd int, name string) (string, error) {
	var buf [4096]byte // PATH_MAX: no file system of Linux stores a longer target
	for {
		n, err := unix.Readlinkat(dirfd, name, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		return string(buf[:n]), nil
	}
}

var errReplaced = errors.New("was replaced while it was read")

// openFileAt opens the regular file name below dirfd that a moment ago looked like st.
// FIFOs don't block it (O_NONBLOCK), and what is no longer the same file is refused.
func openFileAt(dirfd int, name string, st *unix.Stat_t) (int, error) {
	var now unix.Stat_t
	fd, err := openat.Regular(dirfd, name, unix.O_RDONLY|unix.O_NOATIME, &now)
	if err == openat.ErrNotRegular {
		return -1, errReplaced
	}
	if err != nil {
		return -1, err
	}
	if now.Ino != st.Ino || now.Dev != st.Dev {
		unix.Close(fd)
		return -1, errReplaced
	}
	return fd, nil
}

// readFull fills buf from the file's current position, and says how much of it there was.
func readFull(fd int, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// absent reports whether a lookup failed because nothing is there, as opposed to for a
// fault.
func absent(err error) bool {
	return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP || err == unix.ENAMETOOLONG
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// isWhiteout reports whether st is overlayfs' mark of an absent file: a character device
// 0:0.
func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }
