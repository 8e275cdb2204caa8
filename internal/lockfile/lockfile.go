// Package lockfile locks files between goroutines and processes, and keeps the "last
// write" token in them.
//
// A lock is an open file description with an OFD record lock over the whole file
// (fcntl(2), Linux 3.15). Such locks conflict with the classic POSIX locks that other
// programs of the format take, but unlike those they belong to one acquisition: another
// part of this process that opens and closes the same file can't drop them, and two
// goroutines exclude each other just as two processes do. There is no state in the
// process beside the Lock itself.
//
// Whoever changes the data behind a lock writes a new token into the lock file first
// (Touch), so that everyone else sees at their next acquisition that what they remember
// is out of date. Lock files are never truncated and never removed; the only exception
// are the short-lived ones of package tempdir, which is what Current is for.
package lockfile

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/eintr"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// Mode says who else may hold the lock at the same time.
type Mode int

const (
	// Shared locks exclude Exclusive ones only.
	Shared Mode = iota
	// Exclusive locks exclude all others.
	Exclusive
)

// Lock is a lock that is held. Its methods may not be called concurrently, and none but
// Release after Release.
type Lock struct {
	path          string
	fd            int
	mode          Mode
	regular       bool  // the file is one
	start, length int64 // of what is locked; a length of 0 reaches to the end, however the file grows
}

// Acquire waits until it holds the lock. It creates the file (0644), and its directory
// (0700), when they are missing; a shared lock in a place where nothing can be written is
// taken on a file that is only opened for reading.
//
// When ctx ends first, Acquire returns its error at once. A kernel wait for a lock can't
// be called off, so a goroutine stays behind in it, and gives the lock back in the moment
// that it gets it.
//
// What has the file's place and is no regular file, a link among them, is
// errdefs.ErrCorrupt: nothing is locked through it, and nothing written.
func Acquire(ctx context.Context, path string, mode Mode) (*Lock, error) {
	return AcquireIn(ctx, filepath.Dir(path), filepath.Base(path), mode)
}

// AcquireIn is Acquire of a file beneath root, where links lead nowhere either; root may
// be one.
func AcquireIn(ctx context.Context, root, rel string, mode Mode) (*Lock, error) {
	l, err := open(ctx, root, rel, mode)
	if err != nil {
		return nil, err
	}
	return l.wait(ctx)
}

// AcquireByte is Acquire of an exclusive lock on one byte of the file, which may lie
// beyond its end. Locks on different bytes don't exclude each other.
func AcquireByte(ctx context.Context, path string, at int64) (*Lock, error) {
	l, err := open(ctx, filepath.Dir(path), filepath.Base(path), Exclusive)
	if err != nil {
		return nil, err
	}
	l.start, l.length = at, 1
	return l.wait(ctx)
}

// AcquireExisting is AcquireIn of a shared lock that makes no file and writes to none:
// errors.Is(err, fs.ErrNotExist) if there is no lock file.
func AcquireExisting(ctx context.Context, root, rel string) (*Lock, error) {
	path := filepath.Join(root, rel)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	fd, err := openat.Open(root, rel, unix.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return (&Lock{path: path, fd: fd, mode: Shared}).wait(ctx)
}

// wait takes the lock of a file that is open, or closes the file.
func (l *Lock) wait(ctx context.Context) (*Lock, error) {
	path := l.path
	err := l.set(unix.F_OFD_SETLK)
	if err == nil {
		return l, nil
	}
	if !isHeldElsewhere(err) {
		l.close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// got has no buffer: either the lock is handed over to a caller who still waits, or
	// the goroutine keeps it and closes it.
	got := make(chan error)
	defer l.watch(ctx)()
	go func() {
		err := l.set(unix.F_OFD_SETLKW)
		select {
		case got <- err:
		case <-ctx.Done():
			l.close()
		}
	}()
	select {
	case err := <-got:
		if err != nil {
			l.close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return l, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("lock %s: %w", path, ctx.Err())
	}
}

// TryAcquire takes the lock if it is free, and returns errdefs.ErrBusy if someone else
// holds it.
func TryAcquire(path string, mode Mode) (*Lock, error) {
	l, err := open(context.Background(), filepath.Dir(path), filepath.Base(path), mode)
	if err != nil {
		return nil, err
	}
	return l.try()
}

// try takes the lock of a file that is open, or closes the file.
func (l *Lock) try() (*Lock, error) {
	err := l.set(unix.F_OFD_SETLK)
	if err == nil {
		return l, nil
	}
	l.close()
	if isHeldElsewhere(err) {
		return nil, fmt.Errorf("lock %s: %w: %w", l.path, errdefs.ErrBusy, err)
	}
	return nil, fmt.Errorf("lock %s: %w", l.path, err)
}

// TryCreate is TryAcquire of an exclusive lock on a file (0600) that mustn't exist yet:
// errors.Is(err, fs.ErrExist) if it does. Its directory must be there, and no link. After
// errdefs.ErrBusy the file is there, and someone else was quicker to lock it.
func TryCreate(path string) (*Lock, error) {
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	fd, err := openat.CreateIn(filepath.Dir(dir), filepath.Join(filepath.Base(dir), name), unix.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return (&Lock{path: path, fd: fd, mode: Exclusive}).try()
}

// Held reports whether anyone, this process included, holds a lock on the file. It
// neither takes the lock nor creates the file; a missing file is not held.
func Held(path string) (bool, error) {
	fd, err := openat.File(filepath.Dir(path), filepath.Base(path), unix.O_RDWR, nil)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	defer unix.Close(fd)
	whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &whole); err != nil {
		return false, fmt.Errorf("query lock %s: %w", path, err)
	}
	return whole.Type != unix.F_UNLCK, nil
}

// Path is the path the lock was acquired with.
func (l *Lock) Path() string { return l.path }

// Mode is the mode the lock is held in.
func (l *Lock) Mode() Mode { return l.mode }

// Linked reports whether the locked file still has a name. For a file that nobody renames
// that is what Current says, for one system call less.
func (l *Lock) Linked() (bool, error) {
	var held unix.Stat_t
	if err := unix.Fstat(l.fd, &held); err != nil {
		return false, fmt.Errorf("lock %s: %w", l.path, err)
	}
	return held.Nlink > 0, nil
}

// Current reports whether the lock's path still names the file that is locked. A file
// that may be unlinked by whoever holds its lock has to be checked after every
// acquisition: it may have gone between our open and our lock.
func (l *Lock) Current() (bool, error) {
	var held, named unix.Stat_t
	if err := unix.Fstat(l.fd, &held); err != nil {
		return false, fmt.Errorf("lock %s: %w", l.path, err)
	}
	switch err := unix.Lstat(l.path, &named); {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("lock %s: %w", l.path, err)
	}
	return held.Dev == named.Dev && held.Ino == named.Ino, nil
}

// Release gives the lock back. It is safe to call it again.
func (l *Lock) Release() error {
	if l.fd < 0 {
		return nil
	}
	// A child that os/exec is starting has a copy of the descriptor until its execve
	// closes it, and an OFD lock lives as long as the last copy. So it is unlocked first,
	// unless no child is being started (syscall.ForkLock): then closing is enough, and
	// saves a system call. A child whose vfork(2) is over can be a moment short of
	// closing its copies; then the lock is free that moment later, which nobody who waits
	// for it notices.
	var err error
	if syscall.ForkLock.TryRLock() {
		defer syscall.ForkLock.RUnlock()
	} else {
		free := unix.Flock_t{Type: unix.F_UNLCK, Whence: unix.SEEK_SET}
		err = unix.FcntlFlock(uintptr(l.fd), unix.F_OFD_SETLK, &free)
	}
	if cerr := l.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("unlock %s: %w", l.path, err)
	}
	return nil
}

func (l *Lock) close() error {
	fd := l.fd
	l.fd = -1
	return unix.Close(fd)
}

func (l *Lock) set(cmd int) error {
	what := unix.Flock_t{Type: unix.F_RDLCK, Whence: unix.SEEK_SET, Start: l.start, Len: l.length}
	if l.mode == Exclusive {
		what.Type = unix.F_WRLCK
	}
	return eintr.Again(func() error { return unix.FcntlFlock(uintptr(l.fd), cmd, &what) })
}

func isHeldElsewhere(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES)
}

func open(ctx context.Context, root, rel string, mode Mode) (*Lock, error) {
	const rw = unix.O_RDWR | unix.O_CREAT
	path := filepath.Join(root, rel)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	fd, err := openat.Open(root, rel, rw)
	if errors.Is(err, unix.ENOENT) {
		if err := openat.MakeDirs(root, filepath.Dir(rel)); err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		fd, err = openat.Open(root, rel, rw)
	}
	if mode == Shared && (errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES)) {
		fd, err = openat.Open(root, rel, unix.O_RDONLY)
	}
	if err = openat.NotRegular(path, err); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return &Lock{path: path, fd: fd, mode: mode}, nil
}
