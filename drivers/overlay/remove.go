package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
	"golang.org/x/sys/unix"
)

// Delete renames the layer's short name and then its directory into tempdirs. A crash between the two leaves a directory that no record
// names any more; deleting it again finishes the job.
func (d *Driver) Delete(ctx context.Context, id string) (drivers.Trash, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := validateID(id); err != nil {
		return nil, err
	}
	var all trash
	for _, home := range d.homes {
		dir := filepath.Join(home, id)
		if err := unix.Access(dir, unix.F_OK); err == unix.ENOENT {
			continue
		}
		temp, err := tempdir.New(filepath.Join(home, tempDirs))
		if err != nil {
			return nil, fmt.Errorf("overlay: delete layer %s: %w", id, err)
		}
		all = append(all, emptier{temp})
		if err := takeLayer(ctx, temp, home, id); err != nil {
			return nil, fmt.Errorf("overlay: delete layer %s: %w", id, errors.Join(err, all.Empty(context.WithoutCancel(ctx))))
		}
	}
	return all, nil
}

func takeLayer(ctx context.Context, temp *tempdir.Dir, home, id string) error {
	dir := filepath.Join(home, id)
	// The link file may be damaged or name what isn't this layer's; then the symlink stays, for Leavings.
	if link, err := readLink(dir); err == nil {
		symlink := filepath.Join(home, linkDir, link)
		if target, err := os.Readlink(symlink); err == nil && target == linkTarget(id) {
			if err := temp.Take(symlink); err != nil {
				return err
			}
		}
	}
	step.Reached(ctx, "overlay: short name taken away")
	return temp.Take(dir)
}

// trash is what lies in tempdirs to be removed.
type trash []emptier

// Empty removes all of it, and reports every error.
func (t trash) Empty(ctx context.Context) error {
	var errs []error
	for _, e := range t {
		errs = append(errs, e.Empty(ctx))
	}
	return errors.Join(errs...)
}

// emptier is one temporary directory as drivers.Trash.
type emptier struct{ temp *tempdir.Dir }

func (e emptier) Empty(ctx context.Context) error { return e.temp.Remove(ctx) }

// Recover removes what dead processes left in the tempdirs of the homes.
func (d *Driver) Recover(ctx context.Context) error {
	var errs []error
	for _, home := range d.homes {
		if err := tempdir.Recover(ctx, filepath.Join(home, tempDirs)); err != nil {
			errs = append(errs, fmt.Errorf("overlay: %w", err))
		}
	}
	return errors.Join(errs...)
}
