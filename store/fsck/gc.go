package fsck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/drivers/overlay/examine"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/diskusage"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/mount"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

// GCOptions says what is done about garbage.
type GCOptions struct {
	// DryRun only says what would be removed.
	DryRun bool
}

// Collected is what GC has removed.
type Collected struct {
	Report
	// Bytes is what that took on disk, by the sizes of the files.
	Bytes int64
}

// GC removes garbage, the very findings of Check that Finding.Garbage tells, and returns
// what it was. What living processes are at work on isn't garbage, and what isn't named
// like the store's own files belongs to someone else. If a catalog can't be read GC
// removes nothing. It goes on after a single failure and reports all of them.
//
// A layer's files that have no record, while an image or another layer still needs them,
// stay where they are and make the error errdefs.ErrCorrupt: layers are recorded first
// and removed last, so that doesn't come from a crash. Records have been lost, and Repair
// can make them again. Where a file of records is empty, nothing that may be of its kind
// is garbage.
func GC(ctx context.Context, s *store.Store, opts GCOptions) (Collected, error) {
	report, err := check(ctx, s, CheckOptions{Quick: true}, learned{})
	if err != nil {
		return Collected{}, err
	}
	for _, f := range report.Findings {
		if f.Remedy == RemedySalvage || f.Remedy == RemedyAside {
			return Collected{}, fmt.Errorf("%s: %w", f, errdefs.ErrCorrupt)
		}
	}
	r, err := s.Roots(ctx)
	if err != nil {
		return Collected{}, err
	}
	c, err := newChecker(r, CheckOptions{}, learned{})
	if err != nil {
		return Collected{}, err
	}
	done := Collected{Report: report.Garbage()}
	if done.Bytes, err = c.space(ctx, done.Findings); err != nil || opts.DryRun {
		return done, err
	}
	errs := []error{c.discard(ctx, done.Findings)}
	for _, f := range report.Findings {
		// The deletion of a container may have been cut off.
		if f.Kind == KindLayer && f.Remedy == RemedyAdopt &&
			!slices.ContainsFunc(f.Affects, func(o Object) bool { return o.Kind == KindContainer }) {
			errs = append(errs, fmt.Errorf("layer %s: %w: %s", f.ID, errdefs.ErrCorrupt, f.What))
		}
	}
	return done, errors.Join(errs...)
}

// discard removes those of the findings that are garbage still.
func (c *checker) discard(ctx context.Context, findings []Finding) error {
	gone := map[string]bool{}
	for _, f := range findings {
		gone[f.ID] = true
	}
	errs := []error{c.Layers.Recover(ctx)}
	for _, root := range c.Layers.TempRoots() {
		errs = append(errs, tempdir.Sweep(ctx, root))
	}
	errs = append(errs, examine.Of(c.Driver).SweepPulls(ctx))
	probes, err := c.probes(ctx)
	errs = append(errs, err)
	for _, dir := range probes {
		if gone[dir] {
			errs = append(errs, removeProbe(ctx, dir))
		}
	}
	errs = append(errs, c.UpdateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, k *containers.WriteTx) error {
		if err := c.load(&l.ReadTx, &i.ReadTx, &k.ReadTx); err != nil {
			return err
		}
		s, err := c.strays(ctx, &l.ReadTx)
		if err != nil {
			return err
		}
		var errs []error
		for _, id := range s.layers {
			if gone[id] {
				if err := l.DiscardFiles(ctx, id); err != nil {
					errs = append(errs, fmt.Errorf("layer %s: %w", id, err))
				}
				step.Reached(ctx, "orphaned layer discarded")
			}
		}
		for _, path := range s.files {
			if gone[path] {
				errs = append(errs, discardAnywhere(ctx, l, path))
				step.Reached(ctx, "orphaned file discarded")
			}
		}
		return errors.Join(errs...)
	}))
	return errors.Join(append(errs, c.Layers.Wait(ctx))...)
}

// removeProbe removes the directory of a test mount, whose process may have died while it
// was mounted.
func removeProbe(ctx context.Context, dir string) error {
	mounted, err := mount.Below(dir)
	if err != nil {
		return err
	}
	for _, target := range mounted {
		if err := mount.Unmount(target); err != nil {
			return err
		}
	}
	return fsat.RemoveAll(ctx, dir)
}

// space adds up what garbage takes on disk.
func (c *checker) space(ctx context.Context, garbage []Finding) (bytes int64, err error) {
	for _, f := range garbage {
		var n int64
		if f.Kind == KindLayer {
			usage, uerr := c.Driver.Usage(ctx, f.ID)
			n, err = usage.Bytes, uerr
		} else {
			n, err = sizeOf(ctx, f.ID)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errdefs.ErrNotFound) {
			return bytes, err
		}
		bytes += n
	}
	return bytes, nil
}

func sizeOf(ctx context.Context, path string) (int64, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	if !info.IsDir() {
		return info.Size(), nil
	}
	tree, err := diskusage.Count(ctx, path)
	return tree.Size, err
}

// discardAnywhere is Discard for a path that may be on another file system, such as the
// run root's; it is removed there and then.
func discardAnywhere(ctx context.Context, l *layers.WriteTx, path string) error {
	err := l.DiscardIfThere(path)
	if errors.Is(err, unix.EXDEV) {
		return fsat.RemoveAll(ctx, path)
	}
	return err
}
