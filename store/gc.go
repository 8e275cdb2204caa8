package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// Garbage is what interrupted operations have left in a store. Nothing that a record names is ever among it.
type Garbage struct {
	// Temporary are directories and lock files of processes that are gone: what they had staged or thrown away.
	Temporary []string
	// Incomplete are the IDs of layers that a dead process of containers/storage was creating or deleting.
	Incomplete []string
	// Layers are the IDs of layer directories without a record.
	Layers []string
	// Files are paths of recipes, data items, directories of images and containers, links and half-written files that belong to nothing.
	Files []string
}

// Empty reports whether there is no garbage.
func (g Garbage) Empty() bool {
	return len(g.Temporary)+len(g.Incomplete)+len(g.Layers)+len(g.Files) == 0
}

// Check looks for garbage and touches nothing. It doesn't report links of the driver that lead nowhere, which only GC finds.
//
// It returns errdefs.ErrCorrupt, beside the garbage it found, if files without a record are needed by something that has one: see GC.
func (s *Store) Check(ctx context.Context) (Garbage, error) {
	rooms, err := s.open(ctx)
	if err != nil {
		return Garbage{}, err
	}
	stale, err := rooms.layers.Stale()
	if err != nil {
		return Garbage{}, err
	}
	g := Garbage{Temporary: stale}
	var damage error
	err = s.viewAll(ctx, func(l *layers.ReadTx, i *images.ReadTx, c *containers.ReadTx) error {
		if g.Incomplete, err = l.Incomplete(); err != nil {
			return err
		}
		orphans, needed, err := findOrphans(ctx, l, i, c)
		g.Layers, g.Files, damage = orphans.Layers, orphans.Files, needed
		return err
	})
	return g, errors.Join(err, damage)
}

// GC removes garbage and returns what it was. What living processes are at work on isn't garbage, and what isn't named like the store's own files
// belongs to someone else. If a catalog can't be read GC removes nothing. It goes on after a single failure and reports all of them.
//
// A layer's files that have no record, while an image or another layer still needs them, stay where they are and make the error errdefs.ErrCorrupt:
// layers are recorded first and removed last, so that doesn't come from a crash. Records have been lost.
func (s *Store) GC(ctx context.Context) (Garbage, error) {
	rooms, err := s.open(ctx)
	if err != nil {
		return Garbage{}, err
	}
	g, err := s.Check(ctx)
	if err != nil && !errors.Is(err, errdefs.ErrCorrupt) {
		return Garbage{}, err
	}
	errs := []error{rooms.layers.Sweep(ctx)}
	errs = append(errs, s.updateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		orphans, damage, err := findOrphans(ctx, &l.ReadTx, &i.ReadTx, &c.ReadTx)
		if err != nil {
			return err
		}
		pruned, err := l.DiscardOrphans(ctx, orphans)
		g.Layers, g.Files = orphans.Layers, append(orphans.Files, pruned...)
		return errors.Join(err, damage)
	}))
	return g, errors.Join(errs...)
}

// findOrphans returns what belongs to nothing, and an error for each layer that has no record though something needs it.
func findOrphans(ctx context.Context, l *layers.ReadTx, i *images.ReadTx, c *containers.ReadTx) (orphans layers.Orphans, needed, err error) {
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
	var unneeded []string
	for _, id := range orphans.Layers {
		who, err := whoNeeds(id, l, i)
		if err != nil {
			return orphans, nil, err
		}
		if who == "" {
			unneeded = append(unneeded, id)
			continue
		}
		needed = errors.Join(needed, fmt.Errorf("layer %s: %w: its files are there and %s needs them, but it has no record", id, errdefs.ErrCorrupt, who))
	}
	orphans.Layers = unneeded
	return orphans, needed, nil
}

// whoNeeds names a layer or image that can't do without the layer with this ID. A container is none: one whose deletion was interrupted has lost its layer
// already.
func whoNeeds(id string, l *layers.ReadTx, i *images.ReadTx) (string, error) {
	children, err := l.Children(id)
	if err != nil {
		return "", err
	}
	if len(children) > 0 {
		return "layer " + children[0].ID, nil
	}
	users, err := i.ByTopLayer(id)
	if err != nil || len(users) == 0 {
		return "", err
	}
	return "image " + users[0].ID, nil
}
