package layers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/internal/ident"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
)

// Orphans are files that no record knows. Operations that were interrupted leave them;
// nobody will ever ask for them again.
type Orphans struct {
	// Layers are the IDs of directories that the driver keeps without a record.
	Layers []string
	// Files are the paths of recipes, data items, half-written files and what else the
	// driver has left over.
	Files []string
}

// Orphans looks for what no record knows. Layers that are marked as incomplete have a
// record.
func (tx *ReadTx) Orphans(ctx context.Context) (Orphans, error) {
	var o Orphans
	known, err := tx.known()
	if err != nil {
		return o, err
	}
	ids, err := tx.store.driver.List(ctx)
	if err != nil {
		return o, err
	}
	for _, id := range ids {
		if !known[id] {
			o.Layers = append(o.Layers, id)
		}
	}
	dir := tx.store.cfg.Dir
	o.Files, err = bigdata.Orphans(dir, func(id string) (bool, error) { return known[id], nil })
	if err != nil {
		return o, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return o, err
	}
	for _, e := range entries {
		id, recipe := strings.CutSuffix(e.Name(), tarSplitSuffix)
		if recipe && ident.IsDrawn(id) && !known[id] {
			o.Files = append(o.Files, filepath.Join(dir, e.Name()))
		}
	}
	all, err := tx.own.All()
	if err != nil {
		return o, err
	}
	for _, layer := range all {
		strays, err := bigdata.Strays(tx.store.dataDir(layer.ID), layer.BigDataNames)
		if err != nil {
			return o, err
		}
		o.Files = append(o.Files, strays...)
	}
	// The table of mounts is written while layers.lock is only shared.
	err = tx.store.mounts.View(ctx, func(mounts *catalog.MountsTx) error {
		left, err := bigdata.Interrupted(tx.store.cfg.RunDir)
		o.Files = append(o.Files, left...)
		return err
	})
	if err != nil {
		return o, err
	}
	if p, ok := tx.store.driver.(drivers.Pruner); ok {
		left, err := p.Leavings(ctx)
		o.Files = append(o.Files, left...)
		return o, err
	}
	return o, nil
}

// DriverParent is the ID of the layer that the driver has beneath a layer, "" for none or
// when it can't be told.
func (tx *ReadTx) DriverParent(ctx context.Context, id string) string {
	info, err := tx.store.driver.Stat(ctx, id)
	if err != nil {
		return ""
	}
	return info.Parent
}

// Owns reports whether a path is that of the layer's recipe or of its data items'
// directory.
func (tx *ReadTx) Owns(id, path string) bool {
	return path == tx.store.tarSplitPath(id) || path == tx.store.dataDir(id)
}

// known is the set of IDs that have a record, visible or not.
func (tx *ReadTx) known() (map[string]bool, error) {
	all, err := tx.own.All()
	if err != nil {
		return nil, err
	}
	hidden, err := tx.own.Hidden()
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(all)+len(hidden))
	for _, layer := range append(all, hidden...) {
		known[layer.ID] = true
	}
	return known, nil
}

// Incomplete returns the IDs of layers that a dead writer left half made or half deleted.
func (tx *ReadTx) Incomplete() ([]string, error) {
	hidden, err := tx.records.Hidden()
	var ids []string
	for _, layer := range hidden {
		ids = append(ids, layer.ID)
	}
	return ids, err
}

// DiscardOrphans moves orphans out of sight. It goes on after an error and reports all of
// them.
func (tx *WriteTx) DiscardOrphans(ctx context.Context, o Orphans) error {
	var errs []error
	for _, id := range o.Layers {
		if err := tx.discardFiles(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("layer %s: %w", id, err))
		}
		step.Reached(ctx, "orphaned layer discarded")
	}
	for _, path := range o.Files {
		errs = append(errs, tx.DiscardAnywhere(ctx, path))
		step.Reached(ctx, "orphaned file discarded")
	}
	return errors.Join(errs...)
}

// Stale returns the temporary directories and lock files of processes that are gone. No
// lock is needed. What it returns may be a lock file that its process is just about to
// lock; then it isn't there any more, or held, when one looks again.
func (s *Store) Stale(ctx context.Context) ([]string, error) {
	var all []string
	for _, root := range s.tempRoots() {
		stale, err := tempdir.Stale(root)
		if err != nil {
			return nil, err
		}
		all = append(all, stale...)
	}
	if p, ok := s.driver.(drivers.PullStager); ok {
		stale, err := p.StalePulls(ctx)
		return append(all, stale...), err
	}
	return all, nil
}
