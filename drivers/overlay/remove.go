package overlay

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/internal/files"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
	"golang.org/x/sys/unix"
)

// Delete removes the layer's short name and then renames its directory into tempdirs. A
// crash between the two leaves a directory that no record names any more; deleting it
// again finishes the job.
func (d *Driver) Delete(ctx context.Context, id string) (drivers.Trash, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.homes.Validate(id); err != nil {
		return nil, err
	}
	var all []*tempdir.Dir
	var shown []string
	for _, home := range d.homes.Own {
		dir := filepath.Join(home, id)
		link, err := files.ReadLink(dir)
		if err != nil && unix.Access(dir, unix.F_OK) == unix.ENOENT {
			continue
		}
		if path, err := files.ReadAdditional(dir); err == nil && path != "" {
			shown = append(shown, path)
		}
		if err == nil || openat.IsDir(home, id) == nil { // a link in its place goes, and nothing else
			d.liftLimits(home, id)
		}
		temp, err := d.bury(ctx, home, id, link)
		if err != nil {
			return nil, fmt.Errorf("overlay: delete layer %s: %w", id,
				errors.Join(err, drivers.TrashIn(all...).Empty(context.WithoutCancel(ctx))))
		}
		all = append(all, temp)
	}
	if len(shown) > 0 {
		return releasing{drivers.TrashIn(all...), shown}, nil
	}
	return drivers.TrashIn(all...), nil
}

// bury takes away a layer's symlink, if link is its short name, and its directory.
func (d *Driver) bury(ctx context.Context, home, id, link string) (*tempdir.Dir, error) {
	// The link file may be damaged or name what isn't this layer's; then the symlink
	// stays, for Leftovers.
	if links, err := files.OpenLinks(home); err == nil && link != "" {
		if links.LeadsTo(link, id) {
			err = links.Remove(link)
		}
		links.Close()
		if err != nil {
			return nil, err
		}
	}
	step.Reached(ctx, "overlay: short name taken away")
	return tempdir.Bury(filepath.Join(home, drivers.TempDirs), filepath.Join(home, id))
}

// Recover removes what dead processes left in the tempdirs of the homes.
func (d *Driver) Recover(ctx context.Context) error { return d.homes.Recover(ctx) }
