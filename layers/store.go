package layers

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/drivers"
)

// Config says where a Store lies and how it fills layers.
type Config struct {
	// Dir is overlay-layers in the graph root: records, recipes and data items.
	Dir string
	// RunDir is overlay-layers in the run root: the list of mounts.
	RunDir string
	// Transient puts volatile-layers.json into RunDir.
	Transient bool
	// Apply says how the entries of a tar become files. Its IDMap and Progress are set for each layer.
	Apply  archive.ApplyOptions
	Driver drivers.Driver
	// TempRoots are the directories in which the driver stages and throws away.
	TempRoots []string
}

// Store is the layers under one root. It may be used from several goroutines; Stores of the same root, in this process or others, see each
// other's changes.
type Store struct {
	cfg     Config
	records *catalog.Catalog[Layer]
	mounts  *catalog.Mountpoints
	driver  drivers.Driver
	tidied  sync.Once
}

// The files of the catalog, in the order in which they are read.
const (
	stableFile = iota
	volatileFile
)

// Open returns a Store. It does no I/O.
func Open(cfg Config) *Store {
	volatileDir := cfg.Dir
	if cfg.Transient {
		volatileDir = cfg.RunDir
	}
	return &Store{
		cfg: cfg,
		records: catalog.New(schema, filepath.Join(cfg.Dir, "layers.lock"),
			catalog.File{Path: filepath.Join(cfg.Dir, "layers.json")},
			catalog.File{Path: filepath.Join(volatileDir, "volatile-layers.json"), Volatile: true}),
		mounts: catalog.NewMountpoints(filepath.Join(cfg.RunDir, "mountpoints.lock"), filepath.Join(cfg.RunDir, "mountpoints.json")),
		driver: cfg.Driver,
	}
}

var schema = catalog.Schema[Layer]{
	Kind:     "layer",
	ID:       func(l *Layer) string { return l.ID },
	Names:    func(l *Layer) []string { return l.Names },
	SetNames: func(l *Layer, names []string) { l.Names = names },
	Keys: func(l *Layer) []catalog.Key {
		keys := []catalog.Key{
			{Kind: keyCompressed, Value: string(l.CompressedDigest)},
			{Kind: keyDiffID, Value: string(l.DiffID)},
			{Kind: keyTOC, Value: string(l.TOCDigest)},
			{Kind: keyParent, Value: l.Parent},
		}
		for _, name := range l.Names {
			keys = append(keys, catalog.Key{Kind: keyName, Value: name})
		}
		return keys
	},
	Hidden:     func(l *Layer) bool { return l.incomplete() },
	HiddenMark: flagIncomplete,
}

// The kinds of key that layers are found by, beside their ID.
const (
	keyName       = "name"
	keyCompressed = "compressed-diff-digest"
	keyDiffID     = "diff-digest"
	keyTOC        = "toc-digest"
	keyParent     = "parent"
)

// View calls fn with the lock shared. fn must not keep tx.
func (s *Store) View(ctx context.Context, fn func(tx *ReadTx) error) error {
	s.tidy(ctx)
	return s.records.View(ctx, func(tx *catalog.ReadTx[Layer]) error {
		return fn(&ReadTx{store: s, records: tx})
	})
}

// Update calls fn with the lock held exclusively, after it has removed what dead processes left incomplete. What fn changed is saved when it
// returns nil; methods of WriteTx that must not wait for that save themselves and say so. Once the lock is released, Update removes the files of
// the layers that fn deleted.
//
// Update must not be called within View or Update: the lock would wait for itself.
func (s *Store) Update(ctx context.Context, fn func(tx *WriteTx) error) error {
	s.tidy(ctx)
	var trash []drivers.Trash
	err := s.records.Update(ctx, func(tx *catalog.WriteTx[Layer]) error {
		w := &WriteTx{ReadTx: ReadTx{store: s, records: tx}, records: tx}
		defer func() { trash = w.trash }()
		if err := w.deleteIncomplete(ctx); err != nil {
			return err
		}
		return fn(w)
	})
	return errors.Join(err, empty(ctx, trash))
}

// empty removes files that are out of sight already.
func empty(ctx context.Context, trash []drivers.Trash) error {
	var errs []error
	for _, t := range trash {
		errs = append(errs, t.Empty(ctx))
	}
	return errors.Join(errs...)
}

// Close gives back what the driver holds.
func (s *Store) Close() error { return s.driver.Close() }

// tmp is where recipes and data items are staged, and thrown away.
func (s *Store) tmp() string { return filepath.Join(s.cfg.Dir, "tmp") }

const tarSplitSuffix = ".tar-split.gz"

// tarSplitPath is where the recipe of a layer's tar is kept.
func (s *Store) tarSplitPath(id string) string {
	return filepath.Join(s.cfg.Dir, id+tarSplitSuffix)
}

// dataDir is where a layer's data items are kept.
func (s *Store) dataDir(id string) string { return filepath.Join(s.cfg.Dir, id) }
