package drivers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
	"golang.org/x/sys/unix"
)

// Aside is a place for a layer in the making, for drivers whose layers are directories:
// what is built there is part of no store until it is renamed in, and goes with the
// process that made it. It carries the steps that every Staged of such a driver has in
// common.
//
// An Aside is used by one goroutine.
type Aside struct {
	temp     *tempdir.Dir // nil once placed, given away or removed
	path     string
	trash    []Trash // what lay where the layer was to go
	unsynced bool    // somebody else makes the commit durable
}

// NewAside finds a place in root, a directory of temporary directories (section 6 of the
// storage format) on the file system of the layers.
func NewAside(root string) (*Aside, error) {
	temp, err := tempdir.New(root)
	if err != nil {
		return nil, err
	}
	return &Aside{temp: temp, path: temp.Path()}, nil
}

// Path is the directory that is to become the layer, as mkdir(2) with mode 0700 leaves
// it, until Place.
func (a *Aside) Path() string { return a.path }

// Ready is errdefs.ErrInvalid once the layer was committed or discarded.
func (a *Aside) Ready(ctx context.Context) error {
	if a.temp == nil {
		return fmt.Errorf("%w: the staged layer is committed or discarded already", errdefs.ErrInvalid)
	}
	return ctx.Err()
}

// LeaveUnsynced is Staged.LeaveUnsynced.
func (a *Aside) LeaveUnsynced() { a.unsynced = true }

// MakeRoom deletes what an interrupted operation left in the place of layer id. Discard
// will empty it.
func (a *Aside) MakeRoom(ctx context.Context, d Driver, id string) error {
	leftover, err := d.Delete(ctx, id)
	if err != nil {
		return fmt.Errorf("move away what an interrupted operation left: %w", err)
	}
	a.trash = append(a.trash, leftover)
	step.Reached(ctx, d.Name()+": leftover moved away")
	return nil
}

// Place makes what was built the layer id: it renames Path to target and syncs the
// directories in which Commit has changed names, unless that is left to somebody else. If
// that fails the layer is deleted, since whether it would be there after a crash is
// unknown.
func (a *Aside) Place(ctx context.Context, d Driver, id, target string, dirs ...string) error {
	if err := Rename(a.path, target); err != nil {
		return err
	}
	err := a.temp.Leave()
	a.temp = nil
	step.Reached(ctx, d.Name()+": layer renamed in")
	if err == nil && !a.unsynced {
		err = SyncDirs(dirs...)
	}
	if err != nil {
		return errors.Join(err, a.MakeRoom(context.WithoutCancel(ctx), d, id))
	}
	return nil
}

// Exchange swaps something that was built aside for what is in the store, in one step
// (RENAME_EXCHANGE, Linux 3.15), and returns when that is durable. The Aside then belongs
// to the returned Trash, with the former content. It is errdefs.ErrUnsupported where the
// file system can't do it.
func (a *Aside) Exchange(ctx context.Context, d Driver, built, old string) (Trash, error) {
	if err := Exchange(built, old); err != nil {
		return nil, err
	}
	step.Reached(ctx, d.Name()+": content exchanged")
	if err := SyncDirs(filepath.Dir(old), filepath.Dir(built)); err != nil {
		return nil, errors.Join(err, Exchange(built, old))
	}
	trash := TrashIn(a.temp)
	a.temp = nil
	return trash, nil
}

// Exchange swaps two files or directories of one file system, without making that
// durable. It is errdefs.ErrUnsupported where that can't be done in one step.
func Exchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if err == unix.EINVAL || err == unix.ENOSYS {
		return fmt.Errorf("%w: the file system can't exchange two names: %w", errdefs.ErrUnsupported, err)
	}
	return err
}

// Discard removes what is still aside, and what MakeRoom moved away. It can be called
// twice.
func (a *Aside) Discard() error {
	var errs []error
	if a.temp != nil {
		errs = append(errs, a.temp.Close())
	}
	for _, trash := range a.trash {
		errs = append(errs, trash.Empty(context.Background()))
	}
	a.temp, a.trash = nil, nil
	return errors.Join(errs...)
}

// TrashIn is the Trash whose files lie in temporary directories.
func TrashIn(dirs ...*tempdir.Dir) Trash { return trash(dirs) }

type trash []*tempdir.Dir

// Empty removes all of it, and reports every error.
func (t trash) Empty(ctx context.Context) error {
	var errs []error
	for _, dir := range t {
		errs = append(errs, dir.Remove(ctx))
	}
	return errors.Join(errs...)
}

// Rename moves a file or directory to where nothing is. It never replaces anything,
// except on a file system without RENAME_NOREPLACE (Linux 3.15), where the caller must
// have made room and hold the layer lock.
func Rename(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS {
		err = unix.Rename(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// SyncDirs makes the names in directories durable.
func SyncDirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := fsat.SyncDir(dir); err != nil {
			return fmt.Errorf("sync %s: %w", dir, err)
		}
	}
	return nil
}
