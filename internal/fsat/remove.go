package fsat

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// maxOpenDepth is how many nested directories a removal keeps open before it moves the next one up to the top.
	maxOpenDepth = 64
	// removeWorkers is how many goroutines remove one tree. Unlinking is bound by the directory's lock and the journal,
	// so a second one helps by half and a third one by little.
	removeWorkers = 2
)

// RemoveAll removes whatever path names, a directory with everything below it; a missing path is no error. The
// directories above path are followed as usual, below it nothing is:
//
//   - a symlink is removed and not followed, even if it takes a directory's place while RemoveAll is looking;
//   - a mount point is lazily unmounted, never emptied;
//   - immutable and append-only flags are cleared, and directories that lock out their owner are opened up;
//   - any depth takes the same number of descriptors, because deep directories are first renamed up to path.
//
// RemoveAll carries on after an error in one place, so that as much as possible goes, and returns the first one.
// When ctx ends it stops between two files.
func RemoveAll(ctx context.Context, path string) error {
	dir, base := filepath.Split(filepath.Clean(path))
	if dir == "" {
		dir = "."
	}
	if base == "" || base == "." || base == ".." {
		return &os.PathError{Op: "remove", Path: path, Err: unix.EINVAL}
	}
	parent, err := openPath(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(parent)
	r := &remover{ctx: ctx, idle: make(chan struct{}, removeWorkers-1), top: -1}
	if err := r.removeAny(parent, base, 0); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// remover is one call of RemoveAll.
type remover struct {
	ctx  context.Context
	idle chan struct{} // a token in it is a second worker at work

	top   int // the tree's own directory, where deep ones are moved to; -1 until it is open
	moved atomic.Uint64
}

// removeAny removes a name of the directory parent, of whatever type it is.
func (r *remover) removeAny(parent int, name string, depth int) error {
	err := r.unlink(parent, name, 0)
	switch {
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.EPERM):
		// POSIX allows EPERM for a directory, Linux says EISDIR.
		if isDir(parent, name) {
			return r.removeDir(parent, name, depth)
		}
	}
	return err
}

func (r *remover) removeDir(parent int, name string, depth int) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	// Often a directory is empty, or was emptied by others meanwhile.
	err := r.unlink(parent, name, unix.AT_REMOVEDIR)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOTDIR):
		return r.unlink(parent, name, 0) // a file has taken its place
	case !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST):
		return err
	}
	if depth > maxOpenDepth && r.top >= 0 {
		up := ".up-" + strconv.FormatUint(r.moved.Add(1), 10)
		if unix.Renameat2(parent, name, r.top, up, unix.RENAME_NOREPLACE) == nil {
			return r.removeDir(r.top, up, 1)
		}
		// A rename can be impossible (another project quota above): then go on with more descriptors.
	}
	fd, err := openBelow(parent, name)
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if depth == 0 {
		r.top = fd
	}
	// Deleting while reading may make a file system skip names, so read again until the directory is really empty, but
	// no longer than that makes progress.
	for {
		n, err := r.empty(fd, depth)
		if err != nil {
			return fmt.Errorf("%s: %w", strconv.Quote(name), err)
		}
		err = r.unlink(parent, name, unix.AT_REMOVEDIR)
		if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) || n == 0 {
			return err
		}
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return err
		}
	}
}

// empty removes all entries of a directory and returns how many it saw, and the first error.
func (r *remover) empty(fd, depth int) (int, error) {
	var (
		seen    int
		first   error
		helpers sync.WaitGroup
		helped  = make(chan error, removeWorkers)
	)
	fail := func(err error) {
		if first == nil {
			first = err
		}
	}
	err := readDir(fd, func(name string, typ uint8) error {
		seen++
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if typ != unix.DT_DIR {
			if err := r.removeAny(fd, name, depth+1); err != nil {
				fail(err)
			}
			return nil
		}
		select {
		case r.idle <- struct{}{}:
			helpers.Add(1)
			go func() {
				defer helpers.Done()
				defer func() { <-r.idle }()
				if err := r.removeDir(fd, name, depth+1); err != nil {
					select {
					case helped <- err:
					default:
					}
				}
			}()
		default:
			if err := r.removeDir(fd, name, depth+1); err != nil {
				fail(err)
			}
		}
		return nil
	})
	helpers.Wait()
	close(helped)
	if err != nil {
		fail(err)
	}
	for err := range helped {
		fail(err)
	}
	return seen, first
}

// unlink removes one name and clears out of the way what can be: mounts and inode flags. A missing name is no error.
func (r *remover) unlink(parent int, name string, flags int) error {
	for attempt := 0; ; attempt++ {
		err := retry(func() error { return unix.Unlinkat(parent, name, flags) })
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case attempt >= 3:
		case errors.Is(err, unix.EBUSY):
			if unmountBelow(parent, name) == nil {
				continue
			}
		case errors.Is(err, unix.EPERM):
			here, herr := clearFlags(parent)
			there, terr := clearFlagsBelow(parent, name)
			if herr == nil && terr == nil && (here || there) {
				continue
			}
		case errors.Is(err, unix.EACCES):
			if openUp(parent) == nil {
				continue
			}
		}
		return &os.PathError{Op: "unlink", Path: name, Err: err}
	}
}

// openBelow opens a directory to read it. It fails with ENOTDIR or ELOOP for everything else, and takes off what is
// mounted on it instead of entering that: RESOLVE_NO_XDEV is about mounts, a btrfs subvolume is opened.
func openBelow(parent int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	}
	for attempt := 0; ; attempt++ {
		fd, err := unix.Openat2(parent, name, &how)
		switch {
		case err == nil:
			return fd, nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN): // EAGAIN: a rename somewhere, see openat2(2)
			continue
		case attempt >= 16: // a mount on a mount takes a round each
		case errors.Is(err, unix.EXDEV):
			if err := unmountBelow(parent, name); err != nil {
				return -1, err
			}
			continue
		case errors.Is(err, unix.EACCES):
			if attempt == 0 && unix.Fchmodat(parent, name, 0o700, unix.AT_SYMLINK_NOFOLLOW) == nil {
				continue
			}
		}
		return -1, err
	}
}

// unmountBelow takes off the uppermost mount on a name, for all who see it; what still uses it keeps it until it is done.
func unmountBelow(parent int, name string) error {
	err := unix.Unmount(fdPath(parent, name), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "unmount", Path: name, Err: err}
	}
	return nil
}

// openUp gives the owner of a directory the rights to remove from it.
func openUp(dir int) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&0o700 == 0o700 {
		return unix.EACCES // the mode is not what is in the way
	}
	return unix.Fchmod(dir, st.Mode&0o7777|0o700)
}

func isDir(parent int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}
