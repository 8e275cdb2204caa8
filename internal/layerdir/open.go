package layerdir

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/shalestore/shale/internal/eintr"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// Dir is an open directory that several goroutines use. It closes itself when the last
// of them has released it.
type Dir struct {
	FD   int
	refs atomic.Int32
}

// NewDir takes an open directory over.
func NewDir(fd int) *Dir {
	d := &Dir{FD: fd}
	d.refs.Store(1)
	return d
}

// Retain adds a user.
func (d *Dir) Retain() *Dir {
	d.refs.Add(1)
	return d
}

// Release takes a user away.
func (d *Dir) Release() {
	if d.refs.Add(-1) == 0 {
		unix.Close(d.FD)
	}
}

// OpenRoot opens a directory that the caller names: the one place where a path is
// resolved as the host sees it.
func OpenRoot(path string) (*Dir, error) {
	fd, err := openat.At(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open directory %s: %w", path, err)
	}
	return NewDir(fd), nil
}

// OpenDirAt opens the directory name below dirfd for reading. A link in its place is an
// error (ENOTDIR).
func OpenDirAt(dirfd int, name string) (int, error) {
	return openat.At(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NOATIME)
}

func StatAt(dirfd int, name string, st *unix.Stat_t) error {
	return eintr.Again(func() error { return unix.Fstatat(dirfd, name, st, unix.AT_SYMLINK_NOFOLLOW) })
}

func ReadlinkAt(dirfd int, name string) (string, error) {
	var buf [4096]byte // PATH_MAX: no file system of Linux stores a longer target
	n := 0
	err := eintr.Again(func() (err error) {
		n, err = unix.Readlinkat(dirfd, name, buf[:])
		return err
	})
	return string(buf[:max(n, 0)]), err
}

var errReplaced = errors.New("was replaced while it was read")

// OpenFileAt opens the regular file name below dirfd that a moment ago looked like st.
// FIFOs don't block it (O_NONBLOCK), and what is no longer the same file is refused.
func OpenFileAt(dirfd int, name string, st *unix.Stat_t) (int, error) {
	var now unix.Stat_t
	fd, err := openat.Regular(dirfd, name, unix.O_RDONLY|unix.O_NOATIME, &now)
	if errors.Is(err, openat.ErrNotRegular) {
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

// Absent reports whether a lookup failed because nothing is there, as opposed to for a
// fault.
func Absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) ||
		errors.Is(err, unix.ENAMETOOLONG)
}

func IsDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsWhiteout reports whether st is overlayfs' mark of an absent file: a character device
// 0:0.
func IsWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

func IgnoreAbsent(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
