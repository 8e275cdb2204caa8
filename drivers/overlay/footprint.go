package overlay

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/diskusage"
)

// Footprint asks the file system where the layer is a project, and else walks its
// directory: its diff, older generations of it that it holds as copies, and the driver's
// small files.
func (d *Driver) Footprint(ctx context.Context, id string) (_ drivers.Footprint, err error) {
	defer drivers.Describe(&err, Name)
	dir, _, err := d.homes.Find(id)
	if err != nil {
		return drivers.Footprint{}, err
	}
	if limits, usage, err := d.Quota(ctx, id); err == nil {
		return drivers.Footprint{Bytes: usage.Bytes, Inodes: usage.Inodes, Quota: true, Limits: limits}, nil
	}
	return drivers.CountFootprint(ctx, dir)
}

// Stamp rests on two directories. The layer's diff is another one after new content was
// renamed in, and has another change time after its root was changed. work is changed by
// each mount that can write: the kernel makes the directory work in it anew
// (ovl_workdir_create in fs/overlayfs/super.c), and fuse-overlayfs empties it.
func (d *Driver) Stamp(_ context.Context, id string) (_ string, err error) {
	defer drivers.Describe(&err, Name)
	dir, _, err := d.homes.Find(id)
	if err != nil {
		return "", err
	}
	diff, err := diskusage.Stamp(filepath.Join(dir, "diff"))
	if err != nil {
		return "", fmt.Errorf("layer %s: %w", id, err)
	}
	work, err := diskusage.Stamp(filepath.Join(dir, "work"))
	if err != nil {
		return "", fmt.Errorf("layer %s: %w", id, err)
	}
	return diff + " " + work, nil
}
