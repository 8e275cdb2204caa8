package layers

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/tempdir"
	"github.com/shalestore/shale/mount"
)

// inTrees calls fn with the whole content of both layers, as whoever mounts them sees it: what changes are told by when a layer's own directory
// doesn't tell them. fromDir is "" when there is nothing to compare with.
//
// The mounts are read-only and private to this call: they have no place in the tree and go with their descriptors. Where the kernel can't do that they are made
// in a temporary directory, so that even after a kill the next writer of the store, whichever program it is, unmounts and removes them.
func (c *comparison) inTrees(ctx context.Context, fn func(toDir, fromDir string) error) (err error) {
	toDir, release, err := c.store.tree(ctx, c.driver, c.to, c.toShift)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if c.from.ID == "" {
		return fn(toDir, "")
	}
	fromDir, releaseFrom, err := c.store.tree(ctx, c.driver, c.from, c.fromShift)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, releaseFrom()) }()
	return fn(toDir, fromDir)
}

// tree gives a directory with a layer's whole content until release is called, all of it with the owners that the layer's record tells.
func (s *Store) tree(ctx context.Context, driver drivers.Driver, layer Layer, shift idtools.Mapping) (dir string, release func() error, err error) {
	specs, err := driver.Mounts(ctx, layer.ID, drivers.MountOptions{ReadOnly: true, Label: layer.MountLabel, IDMap: shift})
	if err != nil {
		return "", nil, err
	}
	if len(specs) == 0 {
		info, err := driver.Stat(ctx, layer.ID)
		return info.MountPoint, func() error { return nil }, err
	}
	if len(specs) == 1 {
		root, err := mount.Detached(ctx, specs[0])
		if err == nil {
			return fmt.Sprintf("/proc/self/fd/%d", root.Fd()), root.Close, nil
		}
		if !errors.Is(err, errdefs.ErrUnsupported) {
			return "", nil, err
		}
	}
	aside, err := tempdir.New(s.tmp())
	if err != nil {
		return "", nil, err
	}
	dir = aside.Addition()
	release = func() error { return errors.Join(mount.Unmount(dir), aside.Close()) }
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, errors.Join(err, release())
	}
	last := len(specs) - 1
	specs[last].Target = dir
	for _, spec := range specs {
		if err := mount.Perform(ctx, spec); err != nil {
			return "", nil, errors.Join(err, release())
		}
	}
	return dir, release, nil
}
