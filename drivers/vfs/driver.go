// Package vfs keeps every layer as a whole copy of its parent, changed. It needs nothing
// of the kernel and works on every file system, at the price of a copy per layer, which
// file systems that share extents make cheap.
//
// A layer is a directory <graph root>/vfs/dir/<id>, as containers/storage has it. What is
// being made or deleted is in vfs/tempdirs.
package vfs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/diskusage"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/tempdir"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// Name is the driver's name in storage.conf and of its directory in the graph root.
const Name = "vfs"

const layerDir = "dir"

// Options are the driver's settings.
type Options struct {
	// Place is where the store lies.
	drivers.Place
}

// Driver is the vfs driver of one store. It implements drivers.Driver, Recoverer and
// Measurer, and may be used by several goroutines at once.
type Driver struct{ homes drivers.Homes }

// Factory makes the driver known to a registry, with its settings; the place comes from
// whoever opens it.
func Factory(opts Options) drivers.Factory {
	return drivers.Factory{
		Name: Name,
		Open: func(ctx context.Context, at drivers.Place) (drivers.Driver, error) {
			opts := opts
			opts.Place = at
			return Open(ctx, opts)
		},
	}
}

// Open opens the driver and makes its directories when they are missing.
func Open(ctx context.Context, opts Options) (_ *Driver, err error) {
	defer drivers.Describe(&err, Name)
	homes, err := drivers.NewHomes(Name, layerDir, opts.Place)
	if err != nil {
		return nil, err
	}
	for _, home := range homes.Own {
		if err := openat.MakeDirs(home, layerDir); err != nil {
			return nil, err
		}
	}
	return &Driver{homes: homes}, ctx.Err()
}

// Name is "vfs".
func (d *Driver) Name() string { return Name }

// Close has nothing to give back.
func (d *Driver) Close() error { return nil }

// Status has nothing to tell.
func (d *Driver) Status(context.Context) []drivers.Property { return nil }

// Mounts says that nothing is to be mounted. It refuses what can't be had without a
// mount; "ro", ReadOnly and Volatile ask for less than what there is and are ignored, as
// containers/storage does. So whoever asks can write there, and the layer's directory is
// marked for Stamp.
func (d *Driver) Mounts(_ context.Context, id string, opts drivers.MountOptions) (_ []mount.Spec, err error) {
	defer drivers.Describe(&err, Name)
	dir, home, err := d.homes.Find(id)
	if err != nil {
		return nil, err
	}
	if slices.Contains(d.homes.Others, home) && !opts.ReadOnly {
		return nil, errdefs.OtherStore{Kind: errdefs.Layer, ID: id, Store: filepath.Dir(home)}
	}
	for _, option := range opts.Options {
		if option != "ro" {
			return nil, errdefs.Unsupported{What: fmt.Sprintf("mount option %q", option), By: "by the vfs driver",
				Cure: "it mounts nothing"}
		}
	}
	if !opts.IDMap.IsIdentity() {
		return nil, errdefs.Unsupported{What: "mount layer " + id + " with an ID map", By: "by the vfs driver"}
	}
	if slices.Contains(d.homes.Own, home) {
		touch(dir)
	}
	return nil, nil
}

// touch changes a directory's change time and nothing else. It is best effort: a file
// system that refuses is one that nobody writes to either.
func touch(dir string) {
	var st unix.Stat_t
	if unix.Lstat(dir, &st) == nil {
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, {Nsec: unix.UTIME_OMIT}},
			unix.AT_SYMLINK_NOFOLLOW)
	}
}

// Stat tells where the layer lies.
func (d *Driver) Stat(_ context.Context, id string) (_ drivers.Info, err error) {
	defer drivers.Describe(&err, Name)
	dir, _, err := d.homes.Find(id)
	if err != nil {
		return drivers.Info{}, err
	}
	return drivers.Info{Content: dir, MountPoint: dir}, nil
}

// ContentIn is the layer's directory in a store.
func (d *Driver) ContentIn(root, id string) string { return filepath.Join(root, Name, layerDir, id) }

// Usage walks the layer, which here includes what it copied from its parent.
func (d *Driver) Usage(ctx context.Context, id string) (_ drivers.Usage, err error) {
	defer drivers.Describe(&err, Name)
	dir, _, err := d.homes.Find(id)
	if err != nil {
		return drivers.Usage{}, err
	}
	tree, err := diskusage.Count(ctx, dir)
	if err != nil {
		return drivers.Usage{}, fmt.Errorf("usage of layer %s: %w", id, err)
	}
	return drivers.Usage{Bytes: tree.Size, Inodes: tree.Inodes}, nil
}

// Footprint walks the layer.
func (d *Driver) Footprint(ctx context.Context, id string) (_ drivers.Footprint, err error) {
	defer drivers.Describe(&err, Name)
	dir, _, err := d.homes.Find(id)
	if err != nil {
		return drivers.Footprint{}, err
	}
	return drivers.CountFootprint(ctx, dir)
}

// Stamp is that of the layer's directory. Who writes deep into a layer leaves no trace
// there, but Mounts does. containers/storage, which has nothing to mount either, leaves
// none.
func (d *Driver) Stamp(_ context.Context, id string) (_ string, err error) {
	defer drivers.Describe(&err, Name)
	dir, _, err := d.homes.Find(id)
	if err != nil {
		return "", err
	}
	stamp, err := diskusage.Stamp(dir)
	if err != nil {
		return "", fmt.Errorf("layer %s: %w", id, err)
	}
	return stamp, nil
}

// List returns the directories that can be layers.
func (d *Driver) List(ctx context.Context) ([]string, error) { return d.homes.List(ctx) }

// Delete renames the layer into tempdirs.
func (d *Driver) Delete(ctx context.Context, id string) (_ drivers.Trash, err error) {
	defer drivers.Describe(&err, Name)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, home, err := d.homes.Find(id)
	if errors.Is(err, errdefs.ErrNotFound) || slices.Contains(d.homes.Others, home) {
		return drivers.TrashIn(), nil
	}
	if err != nil {
		return nil, err
	}
	temp, err := tempdir.Bury(filepath.Join(home, drivers.TempDirs), dir)
	if err != nil {
		return nil, fmt.Errorf("delete layer %s: %w", id, err)
	}
	return drivers.TrashIn(temp), nil
}

// Recover removes what dead processes left in tempdirs.
func (d *Driver) Recover(ctx context.Context) error { return d.homes.Recover(ctx) }
