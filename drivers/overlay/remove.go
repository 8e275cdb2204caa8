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

// Delete removes the layer's short name and then renames its directory into tempdirs. A crash between the two leaves a directory that no record
// names any more; deleting it again finishes the job.
func (d *Driver) Delete(ctx context.Context, id string) (drivers.Trash, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := validateID(id); err != nil {
		return nil, err
	}
	var all []*tempdir.Dir
	var shown []string
	for _, home := range d.homes {
		dir := filepath.Join(home, id)
		if err := unix.Access(dir, unix.F_OK); err == unix.ENOENT {
			continue
		}
		if path, err := readAdditional(dir); err == nil && path != "" {
			shown = append(shown, path)
		}
		temp, err := tempdir.New(filepath.Join(home, tempDirs))
		if err != nil {
			return nil, fmt.Errorf("overlay: delete layer %s: %w", id, err)
		}
		all = append(all, temp)
		d.liftLimits(home, id)
		if err := takeLayer(ctx, temp, home, id); err != nil {
			return nil, fmt.Errorf("overlay: delete layer %s: %w", id, errors.Join(err, drivers.TrashIn(all...).Empty(context.WithoutCancel(ctx))))
		}
	}
	if len(shown) > 0 {
		return releasing{drivers.TrashIn(all...), shown}, nil
	}
	return drivers.TrashIn(all...), nil
}

func takeLayer(ctx context.Context, temp *tempdir.Dir, home, id string) error {
	dir := filepath.Join(home, id)
	// The link file may be damaged or name what isn't this layer's; then the symlink stays, for Leavings.
	if link, err := readLink(dir); err == nil {
		symlink := filepath.Join(home, linkDir, link)
		if target, err := os.Readlink(symlink); err == nil && target == linkTarget(id) {
			if err := unix.Unlink(symlink); err != nil && err != unix.ENOENT {
				return &os.PathError{Op: "remove", Path: symlink, Err: err}
			}
		}
	}
	step.Reached(ctx, "overlay: short name taken away")
	return temp.Take(dir)
}

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
