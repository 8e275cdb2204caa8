package openat

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/dirent"
	"golang.org/x/sys/unix"
)

// The functions below open what lies in a directory of a store that is known by its path.
// That directory may be reached over links, which are the administrator's; rel is beneath
// it, and where a link, or anything but what was asked for, has a place in rel, the store
// is damaged: errdefs.ErrCorrupt, with the path. All other errors are a *os.PathError.

// Open opens whatever has the place of rel, without waiting for it. With O_PATH that may
// be a link; it is never followed. With O_CREAT among
// the flags a missing file is made with mode 0644.
func Open(root, rel string, flags int) (int, error) { return open(root, rel, flags, 0o644) }

// CreateIn makes a regular file, with flags such as O_WRONLY. It is EEXIST that anything,
// a link among others, is in its place.
func CreateIn(root, rel string, flags int, perm uint32) (int, error) {
	return open(root, rel, flags|unix.O_CREAT|unix.O_EXCL, perm)
}

func open(root, rel string, flags int, perm uint32) (int, error) {
	path := filepath.Join(root, rel)
	how := unix.OpenHow{Flags: uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	if flags&unix.O_PATH == 0 {
		how.Flags |= unix.O_NONBLOCK | unix.O_NOCTTY
	}
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(perm)
	}
	fd, err := -1, error(unix.ELOOP)
	if path != filepath.Clean(root) {
		fd, err = openat2(unix.AT_FDCWD, path, &how)
	}
	if errors.Is(err, unix.ELOOP) { // root itself, or on the way to it, most likely
		dir, rerr := At(unix.AT_FDCWD, root, unix.O_PATH|unix.O_DIRECTORY)
		if rerr != nil {
			return -1, &os.PathError{Op: "open", Path: root, Err: rerr}
		}
		how.Resolve |= unix.RESOLVE_BENEATH
		fd, err = openat2(dir, filepath.Clean(rel), &how)
		unix.Close(dir)
	}
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ELOOP):
		return -1, Damaged(path, "a symbolic link is in its place")
	case errors.Is(err, unix.ENOTDIR):
		return -1, Damaged(path, "it is no directory, or not in one")
	}
	return -1, &os.PathError{Op: "open", Path: path, Err: err}
}

// File opens a regular file, and leaves in st what fstat(2) says of it unless that is
// nil.
func File(root, rel string, flags int, st *unix.Stat_t) (int, error) {
	fd, err := Open(root, rel, flags)
	if err == nil {
		fd, err = regular(fd, nil, st)
	}
	return fd, NotRegular(filepath.Join(root, rel), err)
}

// NotRegular is the error of opening path, where that says that there is no regular file:
// damage. Others stay as they are.
func NotRegular(path string, err error) error {
	for _, what := range []error{ErrNotRegular, unix.EISDIR, unix.ENXIO, unix.ENODEV} {
		if errors.Is(err, what) {
			return Damaged(path, ErrNotRegular.Error())
		}
	}
	return err
}

// Reader is File for reading by way of an os.File.
func Reader(root, rel string) (*os.File, error) {
	fd, err := File(root, rel, unix.O_RDONLY, nil)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Join(root, rel)), nil
}

// CreateFile makes a file that can be read and written, by its path: for directories that
// the caller has made.
func CreateFile(path string) (*os.File, error) {
	fd, err := Create(unix.AT_FDCWD, path, unix.O_RDWR, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// List reads a directory, sorted by name. Every entry that is still there has its type.
func List(root, rel string) ([]dirent.Entry, error) {
	fd, err := Open(root, rel, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	list, err := dirent.List(fd)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: filepath.Join(root, rel), Err: err}
	}
	for i := range list {
		if e := &list[i]; e.Type == unix.DT_UNKNOWN {
			var st unix.Stat_t
			if unix.Fstatat(fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil { // else it is gone
				e.Type = uint8(st.Mode >> 12) // DT_* are the S_IFMT bits (getdents(2))
			}
		}
	}
	return list, nil
}

// IsDir is nil if there is a directory.
func IsDir(root, rel string) error {
	fd, err := Open(root, rel, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// Readlink reads a link, which is the one that may be in its place.
func Readlink(root, rel string) (string, error) {
	fd, err := Open(root, rel, unix.O_PATH)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return ReadlinkIn(fd, filepath.Join(root, rel), "") // of the file itself: Linux 2.6.39
}

// ReadlinkIn is Readlink of a name in an open directory, whose path is for errors.
func ReadlinkIn(dir int, path, name string) (string, error) {
	var target [unix.PathMax]byte
	n, err := unix.Readlinkat(dir, name, target[:])
	path = filepath.Join(path, name)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) && name == "" {
		return "", Damaged(path, "it is no symbolic link")
	}
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: path, Err: err}
	}
	return string(target[:n]), nil
}

// MakeDirs makes a directory and those above it up to root where they are missing, with
// mode 0700. root itself is made, too.
func MakeDirs(root, rel string) error {
	path := filepath.Join(root, rel)
	if err := IsDir(root, rel); !errors.Is(err, unix.ENOENT) {
		return err
	}
	if rel == "." || rel == "" {
		return os.MkdirAll(root, 0o700)
	}
	if err := MakeDirs(root, filepath.Dir(rel)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// Damaged is the error for something in a store that isn't what it has to be.
func Damaged(path, what string) error {
	return fmt.Errorf("%s: %w: %s", path, errdefs.ErrCorrupt, what)
}
