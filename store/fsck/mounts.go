package fsck

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/mount"
)

// checkMounts holds the table of mounts against the layers that there are, and against
// the places where the driver mounts them. A layer is never mounted elsewhere, so another
// path belongs to somebody else, and must not be unmounted.
func (c *checker) checkMounts(ctx context.Context, l *layers.ReadTx) error {
	all, err := c.mountTable(ctx, l)
	if err != nil {
		return err
	}
	incomplete, err := l.Incomplete()
	if err != nil {
		return err
	}
	half := map[string]bool{}
	for _, layer := range incomplete {
		half[layer.ID] = true
	}
	for _, m := range all {
		c.mounted[m.ID] = true
		layer := c.byID[m.ID]
		if layer == nil && !half[m.ID] {
			c.add(KindLayer, m.ID, RemedyForget, "it is listed as mounted, and there is no such layer").fix =
				c.correctMount(m, "")
		}
		if layer == nil || layer.ReadOnly {
			continue
		}
		info, err := c.Driver.Stat(ctx, m.ID)
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) && !errors.Is(err, errdefs.ErrCorrupt) {
			return err
		}
		if err == nil && !samePlace(m.Path, info.MountPoint) {
			c.add(KindLayer, m.ID, RemedyRecord, "it is listed as mounted on %s, which isn't its mount point",
				m.Path).fix =
				c.correctMount(m, info.MountPoint)
		}
	}
	return nil
}

func (c *checker) mountTable(ctx context.Context, l *layers.ReadTx) (all []catalog.Mountpoint, err error) {
	err = l.MountTable().View(ctx, func(mounts *catalog.MountsTx) error {
		all, err = mounts.All()
		return err
	})
	return all, err
}

// samePlace reports whether two paths are of one directory: a store may be reached by
// several.
func samePlace(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	infoA, err := os.Lstat(a)
	infoB, berr := os.Lstat(b)
	return err == nil && berr == nil && os.SameFile(infoA, infoB)
}

// correctMount lists a layer as mounted where it is, or else not at all. Nothing is
// unmounted.
func (c *checker) correctMount(m catalog.Mountpoint, right string) func(context.Context) (string, error) {
	return func(ctx context.Context) (did string, err error) {
		did = "took it off the list of mounts"
		right := catalog.Mountpoint{ID: m.ID, Path: right, Count: m.Count}
		if mounted, merr := mount.IsMountPoint(right.Path); right.Path == "" || merr != nil || !mounted {
			right = catalog.Mountpoint{ID: m.ID}
		} else {
			did = "listed it as mounted on " + right.Path
		}
		return did, c.Layers.Update(ctx, func(tx *layers.WriteTx) error {
			return tx.MountTable().Update(ctx, func(mounts *catalog.MountsWriteTx) error { return mounts.Set(right) })
		})
	}
}
