package fsat

import (
	"errors"
	"os"

	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// SyncDir makes the names in a directory durable: the files created in it, renamed into
// it, out of it or within it, and those unlinked from it. It says nothing about the
// content of those files.
func SyncDir(path string) error {
	fd, err := openat.At(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if err := syncDir(fd); err != nil {
		return &os.PathError{Op: "fsync", Path: path, Err: err}
	}
	return nil
}

// syncDir is fsync(2) of a directory that knows whether the file system is still alive.
// An XFS that has shut down, after an error of its disk, drops what it has logged, finds
// that nothing is left to be written for the directory, and reports success
// (xfs_dir_fsync, seen in Linux 6.18); whatever else it is asked is answered by EIO.
func syncDir(fd int) error {
	if err := retry(func() error { return unix.Fsync(fd) }); err != nil {
		return err
	}
	var st unix.Stat_t
	return retry(func() error { return unix.Fstat(fd, &st) })
}

// SyncFS writes back everything that the file system holding path has in memory. Since
// Linux 5.8 syncfs(2) also returns write-back errors; an error means that some file, not
// necessarily below path, has lost data, and that a second attempt would not bring it
// back.
//
// An error that happened before this call is reported as well unless another process has
// asked for it in between. Where even that must not be missed, take a Syncer before the
// first write.
func SyncFS(path string) error {
	s, err := NewSyncer(path)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Sync()
}

// Syncer syncs a file system and reports every write-back error since NewSyncer, whoever
// else has been told of it.
type Syncer struct {
	path string
	fd   int
	dev  uint64
}

// NewSyncer starts to watch the file system that holds path, a directory or a regular
// file.
func NewSyncer(path string) (*Syncer, error) {
	fd, err := openat.At(unix.AT_FDCWD, path, unix.O_RDONLY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return &Syncer{path: path, fd: fd, dev: st.Dev}, nil
}

// Sync is SyncFS for the file system being watched.
func (s *Syncer) Sync() error {
	if err := retry(func() error { return unix.Syncfs(s.fd) }); err != nil {
		return &os.PathError{Op: "syncfs", Path: s.path, Err: err}
	}
	return nil
}

// Close ends the watch. It syncs nothing.
func (s *Syncer) Close() error {
	return unix.Close(s.fd)
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
