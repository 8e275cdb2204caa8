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
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/diskusage"
	"github.com/shalestore/shale/internal/tempdir"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// Name is the driver's name in storage.conf and of its directory in the graph root.
const Name = "vfs"

const (
	layerDir = "dir"
	tempDirs = "tempdirs"
)

// Options are the driver's settings.
type Options struct {
	// Place is where the store lies.
	drivers.Place
}

// Driver is the vfs driver of one store. It implements drivers.Driver, Recoverer and
// Examiner, and may be used by several goroutines at once.
type Driver struct {
	homes  []string // directories named vfs; the graph root's first, then the image store's
	others []string // those of read-only stores
}

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
func Open(ctx context.Context, opts Options) (*Driver, error) {
	if !filepath.IsAbs(opts.Root) {
		return nil, fmt.Errorf("vfs: graph root %q: %w: the path is not absolute", opts.Root, errdefs.ErrInvalid)
	}
	d := &Driver{homes: []string{filepath.Join(opts.Root, Name)}}
	if opts.ImageStore != "" {
		d.homes = append(d.homes, filepath.Join(opts.ImageStore, Name))
	}
	for _, root := range opts.ReadOnly {
		d.others = append(d.others, filepath.Join(root, Name))
	}
	for _, home := range d.homes {
		if err := os.MkdirAll(filepath.Join(home, layerDir), 0o700); err != nil {
			return nil, fmt.Errorf("vfs: %w", err)
		}
	}
	return d, ctx.Err()
}

// Name is "vfs".
func (d *Driver) Name() string { return Name }

// Close has nothing to give back.
func (d *Driver) Close() error { return nil }

// Status has nothing to tell.
func (d *Driver) Status(context.Context) []drivers.Property { return nil }

// find returns a layer's directory and the home that it is in.
func (d *Driver) find(id string) (dir, home string, err error) {
	if err := drivers.ValidateID(id); err != nil {
		return "", "", err
	}
	for _, home := range slices.Concat(d.homes, d.others) {
		dir := filepath.Join(home, layerDir, id)
		var st unix.Stat_t
		switch err := unix.Lstat(dir, &st); {
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
			return dir, home, nil
		case err == nil, err == unix.ENOENT:
		default:
			return "", "", fmt.Errorf("layer %s: stat %s: %w", id, dir, err)
		}
	}
	return "", "", fmt.Errorf("layer %s: %w to the vfs driver in %s", id, errdefs.ErrNotFound,
		strings.Join(d.homes, " and "))
}

// Mounts says that nothing is to be mounted. It refuses what can't be had without a
// mount; "ro", ReadOnly and Volatile ask for less than what there is and are ignored, as
// containers/storage does. So whoever asks can write there, and the layer's directory is
// marked for Stamp.
func (d *Driver) Mounts(_ context.Context, id string, opts drivers.MountOptions) ([]mount.Spec, error) {
	dir, home, err := d.find(id)
	if err != nil {
		return nil, fmt.Errorf("vfs: %w", err)
	}
	if slices.Contains(d.others, home) && !opts.ReadOnly {
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
	if slices.Contains(d.homes, home) {
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
func (d *Driver) Stat(_ context.Context, id string) (drivers.Info, error) {
	dir, _, err := d.find(id)
	if err != nil {
		return drivers.Info{}, fmt.Errorf("vfs: %w", err)
	}
	return drivers.Info{Content: dir, MountPoint: dir}, nil
}

// ContentIn is the layer's directory in a store.
func (d *Driver) ContentIn(root, id string) string { return filepath.Join(root, Name, layerDir, id) }

// Usage walks the layer, which here includes what it copied from its parent.
func (d *Driver) Usage(ctx context.Context, id string) (drivers.Usage, error) {
	dir, _, err := d.find(id)
	if err != nil {
		return drivers.Usage{}, fmt.Errorf("vfs: %w", err)
	}
	tree, err := diskusage.Count(ctx, dir)
	if err != nil {
		return drivers.Usage{}, fmt.Errorf("vfs: usage of layer %s: %w", id, err)
	}
	return drivers.Usage{Bytes: tree.Size, Inodes: tree.Inodes}, nil
}

// Footprint walks the layer.
func (d *Driver) Footprint(ctx context.Context, id string) (drivers.Footprint, error) {
	dir, _, err := d.find(id)
	if err != nil {
		return drivers.Footprint{}, fmt.Errorf("vfs: %w", err)
	}
	tree, err := diskusage.Count(ctx, dir)
	if err != nil {
		return drivers.Footprint{}, fmt.Errorf("vfs: footprint of layer %s: %w", id, err)
	}
	return drivers.Footprint{Bytes: tree.Allocated, Inodes: tree.Inodes}, nil
}

// Stamp is that of the layer's directory. Who writes deep into a layer leaves no trace
// there, but Mounts does. containers/storage, which has nothing to mount either, leaves
// none.
func (d *Driver) Stamp(_ context.Context, id string) (string, error) {
	dir, _, err := d.find(id)
	if err != nil {
		return "", fmt.Errorf("vfs: %w", err)
	}
	stamp, err := diskusage.Stamp(dir)
	if err != nil {
		return "", fmt.Errorf("vfs: layer %s: %w", id, err)
	}
	return stamp, nil
}

// Examine tells whether the layer is there; there is nothing else to it.
func (d *Driver) Examine(ctx context.Context, id string, _ [][]string) ([]drivers.Flaw, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	_, _, err := d.find(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return []drivers.Flaw{{Path: filepath.Join(d.homes[0], layerDir, id), What: "the layer's directory is missing",
			Lost: true}}, nil
	}
	return nil, err
}

// Rewrite has nothing that it could rewrite.
func (d *Driver) Rewrite(context.Context, string, []string) error { return nil }

// List returns the directories that can be layers.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	var all []string
	for _, home := range d.homes {
		entries, err := os.ReadDir(filepath.Join(home, layerDir))
		if err != nil {
			return nil, fmt.Errorf("vfs: list layers: %w", err)
		}
		for _, entry := range entries {
			if entry.IsDir() && drivers.ValidateID(entry.Name()) == nil && !slices.Contains(all, entry.Name()) {
				all = append(all, entry.Name())
			}
		}
	}
	return all, ctx.Err()
}

// Delete renames the layer into tempdirs.
func (d *Driver) Delete(ctx context.Context, id string) (drivers.Trash, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, home, err := d.find(id)
	if errors.Is(err, errdefs.ErrNotFound) || slices.Contains(d.others, home) {
		return drivers.TrashIn(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("vfs: %w", err)
	}
	temp, err := tempdir.Bury(filepath.Join(home, tempDirs), dir)
	if err != nil {
		return nil, fmt.Errorf("vfs: delete layer %s: %w", id, err)
	}
	return drivers.TrashIn(temp), nil
}

// Recover removes what dead processes left in tempdirs.
func (d *Driver) Recover(ctx context.Context) error {
	var errs []error
	for _, home := range d.homes {
		if err := tempdir.Recover(ctx, filepath.Join(home, tempDirs)); err != nil {
			errs = append(errs, fmt.Errorf("vfs: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Leftovers has nothing to find: what processes leave behind is in tempdirs.
func (d *Driver) Leftovers(context.Context) ([]string, error) { return nil, nil }

// Probes has nothing to find: nobody tries anything out here.
func (d *Driver) Probes(context.Context) ([]string, error) { return nil, nil }
