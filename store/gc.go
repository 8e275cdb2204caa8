package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/diskusage"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/mount"
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
func (s *Store) GC(ctx context.Context, opts GCOptions) (Collected, error) {
	var done Collected
	report, err := s.Check(ctx, CheckOptions{Quick: true})
	if err != nil {
		return done, err
	}
	if damaged := report.Of(KindRecords); len(damaged) > 0 {
		return done, fmt.Errorf("%s: %w", damaged[0], errdefs.ErrCorrupt)
	}
	lost, err := s.lost(ctx)
	if err != nil {
		return done, err
	}
	done.Report = report.only(func(f Finding) bool { return f.Garbage() && !lost.spares(f.ID) })
	if done.Bytes, err = s.space(ctx, done.Report); err != nil {
		return done, err
	}
	if opts.DryRun {
		return done, nil
	}
	return done, s.collect(ctx, lost)
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

// collect removes what is garbage now, without what may belong to objects whose records
// were lost.
func (s *Store) collect(ctx context.Context, lost lostRecords) error {
	roots, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	errs := []error{roots.Layers.Sweep(ctx)}
	probes, err := s.staleProbes(ctx)
	errs = append(errs, err)
	for _, dir := range probes {
		errs = append(errs, removeProbe(ctx, dir))
	}
	errs = append(errs, s.updateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		orphans, needed, err := findOrphans(ctx, lost, &l.ReadTx, &i.ReadTx, &c.ReadTx)
		if err != nil {
			return err
		}
		var damage error
		for _, need := range needed {
			if need.by.Kind != KindContainer { // whose deletion may have been cut off
				damage = errors.Join(damage, fmt.Errorf("layer %s: %w: %s", need.layer, errdefs.ErrCorrupt, need))
			}
		}
		orphans.Files = slices.DeleteFunc(orphans.Files, func(path string) bool { return lost.spares(path) })
		return errors.Join(l.DiscardOrphans(ctx, orphans), damage)
	}))
	return errors.Join(append(errs, s.Wait(ctx))...)
}

// space adds up what the findings take on disk.
func (s *Store) space(ctx context.Context, garbage Report) (bytes int64, err error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	for _, f := range garbage.Findings {
		path := f.ID
		if f.Kind == KindLayer {
			usage, err := roots.Driver.Usage(ctx, f.ID)
			if err == nil {
				bytes += usage.Bytes
			} else if !gone(err) {
				return bytes, err
			}
			continue
		}
		n, err := sizeOf(ctx, path)
		if err != nil && !gone(err) {
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

func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, errdefs.ErrNotFound)
}

// need is a layer without a record that something can't do without, or that may have had
// one among those that were lost: then by is nothing.
type need struct {
	layer string
	by    Object
}

func (n need) String() string {
	if n.by.ID == "" {
		return "its files are there, but it has no record: records of layers were lost"
	}
	return fmt.Sprintf("its files are there and %s needs them, but it has no record", n.by)
}

// findOrphans returns what belongs to nothing, and the layers that have no record though
// something needs them. They come with all that lies beneath them, and where records of
// layers were lost, with all others.
func findOrphans(ctx context.Context, lost lostRecords, l *layers.ReadTx, i *images.ReadTx,
	c *containers.ReadTx) (orphans layers.Orphans, needed []need, err error) {
	if orphans, err = l.Orphans(ctx); err != nil {
		return orphans, nil, err
	}
	for _, others := range []func() ([]string, error){i.Orphans, c.Orphans} {
		files, err := others()
		if err != nil {
			return orphans, nil, err
		}
		orphans.Files = append(orphans.Files, files...)
	}
	for _, id := range orphans.Layers {
		if _, err := l.Get(id); err == nil {
			continue // the layer that is needed is another store's, which these files only hide
		}
		by, err := whoNeeds(id, l, i, c)
		if err != nil {
			return orphans, nil, err
		}
		if by.ID != "" {
			needed = append(needed, need{id, by})
		}
	}
	isNeeded := func(id string) bool {
		return slices.ContainsFunc(needed, func(n need) bool { return n.layer == id })
	}
	for n := 0; n < len(needed); n++ { // the list grows
		parent := l.DriverParent(ctx, needed[n].layer)
		if slices.Contains(orphans.Layers, parent) && !isNeeded(parent) {
			needed = append(needed, need{parent, Object{KindLayer, needed[n].layer}})
		}
	}
	for _, id := range orphans.Layers {
		if _, err := l.Get(id); err != nil && lost["layers"] != nil && !isNeeded(id) {
			needed = append(needed, need{layer: id})
		}
	}
	orphans.Layers = slices.DeleteFunc(orphans.Layers, isNeeded)
	orphans.Files = slices.DeleteFunc(orphans.Files, func(path string) bool {
		return slices.ContainsFunc(needed, func(n need) bool { return l.Owns(n.layer, path) })
	})
	return orphans, needed, nil
}

// whoNeeds names a layer, image or container that can't do without the layer with this
// ID.
func whoNeeds(id string, l *layers.ReadTx, i *images.ReadTx, c *containers.ReadTx) (Object, error) {
	children, err := l.Children(id)
	if err != nil {
		return Object{}, err
	}
	if len(children) > 0 {
		return Object{KindLayer, children[0].ID}, nil
	}
	users, err := i.ByTopLayer(id)
	if err != nil {
		return Object{}, err
	}
	if len(users) > 0 {
		return Object{KindImage, users[0].ID}, nil
	}
	owner, err := c.ByLayer(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return Object{}, nil
	}
	return Object{KindContainer, owner.ID}, err
}
