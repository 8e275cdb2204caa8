// Package tempdir makes directories for what is not yet, or no longer, part of a store.
//
// Every process that stages something or throws something away makes a directory
// `temp-dir-N` in a root shared with others, and holds the lock of the file `lock-N`
// beside it for as long as it lives (section 6 of the storage format). Nothing ever has
// to be written down: a directory whose lock is free belongs to a process that died, and
// Recover removes it.
package tempdir

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/atomicfile"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

const (
	lockPrefix = "lock-"
	dirPrefix  = "temp-dir-"
)

// Dir is a temporary directory of this process. Its methods are safe for concurrent use,
// but nothing may be added to it once Remove has been called.
type Dir struct {
	path string

	mu      sync.Mutex
	lock    *lockfile.Lock // nil once given back
	members int
	full    bool // something was thrown in, and nobody takes it out again
}

// New makes a temporary directory in root, and root itself (0700) when it is missing.
func New(root string) (*Dir, error) {
	return begin(root, func(path string) error { return os.Mkdir(path, 0o700) })
}

// Bury renames victim, a file or a directory on the same file system, so that it is the
// temporary directory: it is gone from where it was at once. A missing victim is no
// error; there is nothing to be removed then. On a disk that is so full that there can be
// no temporary directory it is removed where it is, and nil returned.
func Bury(root, victim string) (*Dir, error) {
	d, err := begin(root, func(path string) error {
		err := unix.Rename(victim, path)
		if err == nil || err == unix.EEXIST || err == unix.ENOTEMPTY {
			return err
		}
		if _, serr := os.Lstat(victim); errors.Is(serr, os.ErrNotExist) {
			return nil
		}
		return &os.LinkError{Op: "rename", Old: victim, New: path, Err: err}
	})
	if atomicfile.IsFull(err) {
		return nil, fsat.RemoveAll(context.Background(), victim)
	}
	if d != nil {
		d.full = true
	}
	return d, err
}

// begin takes a number and has its directory made by begun.
func begin(root string, begun func(path string) error) (*Dir, error) {
	// Chance decides the number. It is taken when its lock file exists, and lost again
	// when someone recovers the lock file between its creation and our lock.
	for range 10_000 {
		n := strconv.FormatUint(uint64(rand.Uint32()), 10)
		d, err := claim(root, n, begun)
		if errors.Is(err, errNoRoot) {
			if err = openat.MakeDirs(filepath.Dir(root), filepath.Base(root)); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, fmt.Errorf("temporary directory in %s: %w", root, err)
		}
		if d != nil {
			return d, nil
		}
	}
	return nil, fmt.Errorf("temporary directory in %s: %w: no free number found", root, errdefs.ErrBusy)
}

var errNoRoot = errors.New("no such root")

// claim takes number n, or returns nil if it has an owner.
func claim(root, n string, begun func(path string) error) (*Dir, error) {
	lockPath := filepath.Join(root, lockPrefix+n)
	lock, err := lockfile.TryCreate(lockPath)
	if errors.Is(err, os.ErrExist) || errors.Is(err, errdefs.ErrBusy) { // busy: a recovery has it, and will remove it
		return nil, nil
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoRoot
	}
	if err != nil {
		return nil, err
	}
	if ok, err := lock.Linked(); !ok || err != nil {
		lock.Release()
		return nil, err
	}
	path := filepath.Join(root, dirPrefix+n)
	if err := begun(path); err != nil {
		if errors.Is(err, os.ErrExist) { // left without its lock file: something to recover
			return nil, lock.Release()
		}
		os.Remove(lockPath)
		lock.Release()
		return nil, err
	}
	return &Dir{path: path, lock: lock}, nil
}

// Path is the directory itself.
func (d *Dir) Path() string { return d.path }

// Leave is Remove for a directory that was itself renamed to where it belongs. It comes
// right after that: in between a crash leaves a lock file alone, which only Sweep
// removes.
func (d *Dir) Leave() error {
	if lock, _ := d.end(); lock != nil {
		return unlock(lock, nil)
	}
	return nil
}

// Addition returns the path of the next member to be staged. Nothing is there yet; the
// caller makes a file or a directory and renames it to where it belongs when it is
// complete.
func (d *Dir) Addition() string { return d.member("addition") }

// Take renames victim, a file or a directory on the same file system, into the directory,
// so that it is gone from where it was at once. A missing victim is no error.
func (d *Dir) Take(victim string) error {
	base := filepath.Base(victim)
	base = base[:min(len(base), 200)] // with its number it has to fit NAME_MAX
	err := unix.Rename(victim, d.member(base))
	d.mu.Lock()
	d.full = d.full || err == nil
	d.mu.Unlock()
	if errors.Is(err, os.ErrNotExist) {
		if _, serr := os.Lstat(d.path); serr == nil {
			return nil
		}
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: victim, New: d.path, Err: err}
	}
	return nil
}

func (d *Dir) member(what string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.members
	d.members++
	return filepath.Join(d.path, strconv.Itoa(k)+"-"+what)
}

// Remove removes the directory with everything in it, and gives its lock back. On failure
// what is left is stale, and the next Recover removes it. Calling Remove again does
// nothing.
func (d *Dir) Remove(ctx context.Context) error {
	if d == nil { // of Bury
		return nil
	}
	lock, full := d.end()
	if lock == nil {
		return nil
	}
	if !full && unix.Rmdir(d.path) == nil { // all that was built in it has found its place
		return unlock(lock, nil)
	}
	return remove(ctx, d.path, lock)
}

// end hands the lock out, once.
func (d *Dir) end() (lock *lockfile.Lock, full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	lock, d.lock = d.lock, nil
	return lock, d.full
}

// Close is Remove without a deadline, for defer.
func (d *Dir) Close() error { return d.Remove(context.Background()) }

// remove removes a directory whose lock is held.
func remove(ctx context.Context, path string, lock *lockfile.Lock) error {
	return unlock(lock, fsat.RemoveAll(ctx, path))
}

// unlock gives up a lock once its directory is gone. The lock file goes last, since
// without it the directory is anyone's, and stays if err says that something is left.
func unlock(lock *lockfile.Lock, err error) error {
	if err == nil {
		if err = unix.Unlink(lock.Path()); err != nil {
			err = &os.PathError{Op: "remove", Path: lock.Path(), Err: err}
		}
	}
	if rerr := lock.Release(); err == nil {
		err = rerr
	}
	return err
}

// Recover removes the temporary directories in root that no living process holds. A
// missing root has none. One that can't be removed does not keep Recover from the others;
// the errors come back joined.
//
// A lock file without a directory is left alone. It is garbage only if its process died
// in the instant before it made the directory; otherwise that process is just about to
// lock the file, and containers/storage's gives up when it finds it gone. Sweep removes
// such files too.
func Recover(ctx context.Context, root string) error {
	return recoverAll(ctx, root, func(n string) bool {
		_, err := os.Lstat(filepath.Join(root, dirPrefix+n))
		return err == nil
	})
}

// Sweep is Recover for when someone asked for a clean root: it also removes lock files
// that have no directory.
func Sweep(ctx context.Context, root string) error {
	return recoverAll(ctx, root, func(string) bool { return true })
}

func recoverAll(ctx context.Context, root string, wanted func(number string) bool) error {
	numbers, err := list(root)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range numbers {
		if !wanted(n) {
			continue
		}
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		if err := recoverOne(ctx, root, n); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func recoverOne(ctx context.Context, root, n string) error {
	lock, err := lockfile.TryAcquire(filepath.Join(root, lockPrefix+n), lockfile.Exclusive)
	if errors.Is(err, errdefs.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	// Another recovery may have unlinked the file we locked, and a new owner may have
	// made it again.
	if ok, err := lock.Current(); !ok || err != nil {
		lock.Release()
		return err
	}
	return remove(ctx, filepath.Join(root, dirPrefix+n), lock)
}

// Stale returns the paths in root that Sweep would remove: directories and lock files
// that nobody holds. It changes nothing.
func Stale(root string) ([]string, error) {
	numbers, err := list(root)
	if err != nil {
		return nil, err
	}
	var stale []string
	for _, n := range numbers {
		lock := filepath.Join(root, lockPrefix+n)
		held, err := lockfile.Held(lock)
		if err != nil {
			return nil, err
		}
		if held {
			continue
		}
		for _, path := range []string{filepath.Join(root, dirPrefix+n), lock} {
			if err := unix.Access(path, unix.F_OK); err == nil {
				stale = append(stale, path)
			}
		}
	}
	return stale, nil
}

// list returns the numbers that have a directory or a lock file in root, sorted.
func list(root string) ([]string, error) {
	entries, err := openat.List(filepath.Dir(root), filepath.Base(root))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []string
	seen := map[string]bool{}
	for _, e := range entries {
		n, ok := number(e.Name)
		if ok && !seen[n] {
			seen[n] = true
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

// number returns the part of a name after its prefix. Others choose it, so it need not be
// a number.
func number(name string) (string, bool) {
	for _, prefix := range []string{dirPrefix, lockPrefix} {
		if len(name) > len(prefix) && name[:len(prefix)] == prefix {
			return name[len(prefix):], true
		}
	}
	return "", false
}
