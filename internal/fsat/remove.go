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

	"github.com/shalestore/shale/internal/dirent"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

const (
	// maxOpenDepth is how many nested directories a removal keeps open before it moves
	// the next one up to the top.
	maxOpenDepth = 64
	// removeWorkers is how many goroutines remove one tree. Unlinking is bound by the
	// directory's lock and the journal, so a second one helps by half and a third one by
	// little.
	removeWorkers = 2
)

// RemoveAll removes whatever path names, a directory with everything below it; a missing
// path is no error. The directories above path are followed as usual, below it nothing
// is:
//
//   - a symlink is removed and not followed, even if it takes a directory's place while
//     RemoveAll is looking;
//   - a mount point is lazily unmounted, never emptied;
//   - immutable and append-only flags are cleared, and directories that lock out their
//     owner are opened up;
//   - any depth takes the same number of descriptors, because deep directories are first
//     renamed up to path.
//
// RemoveAll carries on after an error in one place, so that as much as possible goes, and
// returns the first one. When ctx ends it stops between two files.
func RemoveAll(ctx context.Context, path string) error {
	dir, base := filepath.Split(filepath.Clean(path))
	if dir == "" {
		dir = "."
	}
	if base == "" || base == "." || base == ".." {
		return &os.PathError{Op: "remove", Path: path, Err: unix.EINVAL}
	}
	parent, err := openat.At(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(parent)
	r := &remover{ctx: ctx, idle: make(chan struct{}, removeWorkers-1)}
	if err := r.remove(parent, base, unix.DT_DIR, 0); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// remover is one call of RemoveAll.
type remover struct {
	ctx  context.Context
	idle chan struct{} // a token in it is a second worker at work

	top   int // the tree's own directory, where deep ones are moved to
	moved atomic.Uint64
}

// remove removes a name of the directory parent, of whatever type it is. typ is what the
// directory said of it, a DT_ constant.
func (r *remover) remove(parent int, name string, typ uint8, depth int) error {
	dir := typ == unix.DT_DIR
	for attempt := 0; ; attempt++ {
		var err error
		if dir {
			err = r.removeDir(parent, name, depth)
		} else {
			err = r.unlink(parent, name, 0)
		}
		switch {
		case attempt >= 32: // whoever swaps names under our hands can keep us from ending, but not for ever
			return err
		case !dir && (errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) && isDir(parent, name)):
			dir = true
		case dir && (errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)):
			dir = false
		default:
			return err
		}
	}
}

func (r *remover) removeDir(parent int, name string, depth int) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	// Often a directory is empty, but not the uppermost.
	if depth > 0 {
		if err := r.unlink(parent, name, unix.AT_REMOVEDIR); !isNotEmpty(err) {
			return err
		}
	}
	if depth > maxOpenDepth {
		up := ".up-" + strconv.FormatUint(r.moved.Add(1), 10)
		if unix.Renameat2(parent, name, r.top, up, unix.RENAME_NOREPLACE) == nil {
			return nil // its turn comes with the other entries of the top
		}
		// A rename can be impossible (another project quota above): then go on with more
		// descriptors.
	}
	fd, err := openBelow(parent, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return pathError("open", parent, name, err)
	}
	defer unix.Close(fd)
	if depth == 0 {
		r.top = fd
	}
	return r.empty(fd, depth, func() error { return r.unlink(parent, name, unix.AT_REMOVEDIR) })
}

func isNotEmpty(err error) bool {
	return errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST)
}

// empty removes all entries of a directory, and then the directory itself with rmdir. It
// returns the first error.
func (r *remover) empty(fd, depth int, rmdir func() error) error {
	var (
		seen    int // since the directory's beginning
		helpers sync.WaitGroup
		mu      sync.Mutex
		first   error
	)
	defer helpers.Wait()
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil && first == nil {
			first = err
		}
	}
	for {
		list, n, err := dirent.Read(fd, nil)
		seen += len(list)
		for _, e := range list {
			if err = r.ctx.Err(); err != nil {
				break
			}
			if e.Type == unix.DT_DIR {
				select {
				case r.idle <- struct{}{}:
					helpers.Go(func() {
						defer func() { <-r.idle }()
						fail(r.remove(fd, e.Name, e.Type, depth+1))
					})
					continue
				default:
				}
			}
			fail(r.remove(fd, e.Name, e.Type, depth+1))
		}
		if n > dirent.Size/2 && err == nil {
			continue
		}
		// Little was read, so that was most likely all. Whether it was, the removal tells
		// sooner than another look.
		helpers.Wait()
		switch {
		case err != nil && !errors.Is(err, unix.ENOENT): // else the directory itself has been removed meanwhile
			fail(err)
			return first
		case first != nil && n > 0: // as much as possible goes
			continue
		case first != nil:
			return first
		}
		if err := rmdir(); !isNotEmpty(err) || n == 0 && seen == 0 {
			return err
		}
		if n > 0 {
			continue
		}
		// Deleting while reading may make a file system skip names, and the top gets new
		// ones: read again until there is nothing to be read.
		seen = 0
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return err
		}
	}
}

// unlink removes one name and clears out of the way what can be: mounts and inode flags.
// A missing name is no error.
func (r *remover) unlink(parent int, name string, flags int) error {
	for attempt := 0; ; attempt++ {
		err := retry(func() error { return unix.Unlinkat(parent, name, flags) })
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case isNotEmpty(err), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOTDIR):
			return err // which the caller expects; to find out the path would cost a system call
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
		return pathError("remove", parent, name, err)
	}
}

// pathError says where in the tree it happened, as far as the kernel can tell: not below
// PATH_MAX.
func pathError(op string, parent int, name string, err error) error {
	if dir, lerr := os.Readlink(openat.ProcPath(parent)); lerr == nil {
		name = filepath.Join(dir, name)
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}

// openBelow opens a directory to read it. It fails with ENOTDIR or ELOOP for everything
// else, and takes off what is mounted on it instead of entering that.
func openBelow(parent int, name string) (int, error) {
	for attempt := 0; ; attempt++ {
		fd, err := openat.Dir(parent, name)
		switch {
		case err == nil:
			return fd, nil
		case attempt >= 16: // a mount on a mount takes a round each
		case errors.Is(err, unix.EXDEV):
			// EINVAL: it is no mount point, or none any more: somebody is swapping names.
			// Look again.
			if err := unmountBelow(parent, name); err != nil && !errors.Is(err, unix.EINVAL) {
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

// unmountBelow takes off the uppermost mount on a name, for all who see it; what still
// uses it keeps it until it is done.
func unmountBelow(parent int, name string) error {
	err := unix.Unmount(openat.ProcPath(parent)+"/"+name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil {
		return pathError("unmount", parent, name, err)
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
