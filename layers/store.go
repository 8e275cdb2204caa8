package layers

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/ident"
)

// Config says where a Store lies and how it fills layers.
type Config struct {
	// Dir is overlay-layers in the graph root: records, tar-split files and data items.
	Dir string
	// ImageDir is overlay-layers in the image store, where the records of layers that
	// aren't writable are then; "" without an image store. Their tar-split files and data
	// items are in Dir all the same (format, section 1.3).
	ImageDir string
	// ReadOnly are the same directories in other stores. Their layers are found after the
	// store's own, in this order.
	ReadOnly []string
	// RunDir is overlay-layers in the run root: the list of mounts.
	RunDir string
	// Transient puts volatile-layers.json into RunDir.
	Transient bool
	// Apply says how the entries of a tar become files. Its IDMap and Progress are set
	// for each layer.
	Apply apply.Options
	// Unsynced leaves it to the kernel when a layer's files reach the disk. Their records
	// are synced all the same.
	Unsynced bool
	Driver   drivers.Driver
	// TempRoots are the directories in which the driver stages and throws away.
	TempRoots []string
}

// Store is the layers under one root. It may be used from several goroutines; Stores of
// the same root, in this process or others, see each other's changes.
type Store struct {
	cfg     Config
	records *catalog.Catalog[Layer]
	below   []catalog.Below[Layer]
	files   files
	mounts  *catalog.Mountpoints
	driver  drivers.Driver
	tidying sync.Mutex
	tidied  bool
	reaper  *reaper
}

// files says which of the catalog's files is which. They are read in this order.
type files struct{ stable, image, volatile int }

// Open returns a Store. It does no I/O.
func Open(cfg Config) *Store {
	volatileDir := cfg.Dir
	if cfg.Transient {
		volatileDir = cfg.RunDir
	}
	records := []catalog.File{{Path: filepath.Join(cfg.Dir, recordsFile)}}
	var files files
	if cfg.ImageDir != "" {
		files.image = 1
		records = append(records, catalog.File{Path: filepath.Join(cfg.ImageDir, recordsFile),
			Lock: filepath.Join(cfg.ImageDir, lockFile)})
	}
	files.volatile = len(records)
	records = append(records, catalog.File{Path: filepath.Join(volatileDir, volatileRecordsFile), Volatile: true})
	return &Store{
		cfg: cfg, files: files, below: below(cfg.ReadOnly),
		records: catalog.New(schema, filepath.Join(cfg.Dir, lockFile), records...),
		mounts: catalog.NewMountpoints(filepath.Join(cfg.RunDir, "mountpoints.lock"),
			filepath.Join(cfg.RunDir, mountpointsFile)),
		driver: cfg.Driver,
		reaper: newReaper(),
	}
}

const (
	lockFile            = "layers.lock"
	recordsFile         = "layers.json"
	volatileRecordsFile = "volatile-layers.json"
	mountpointsFile     = "mountpoints.json"
)

// below describes the layers of read-only stores.
func below(dirs []string) []catalog.Below[Layer] {
	var all []catalog.Below[Layer]
	for _, dir := range dirs {
		all = append(all, catalog.Below[Layer]{
			Catalog: catalog.NewReadOnly(schema, filepath.Join(dir, lockFile),
				catalog.File{Path: filepath.Join(dir, recordsFile)},
				catalog.File{Path: filepath.Join(dir, volatileRecordsFile), Volatile: true}),
			Mark: func(l *Layer) { l.ReadOnly, l.home = true, dir },
		})
	}
	return all
}

var schema = catalog.Schema[Layer]{
	Kind:     errdefs.Layer,
	ValidID:  ident.Validate,
	ID:       func(l *Layer) string { return l.ID },
	Names:    func(l *Layer) []string { return l.Names },
	SetNames: func(l *Layer, names []string) { l.Names = names },
	Keys: func(l *Layer) []catalog.Key {
		return []catalog.Key{
			{Kind: keyCompressed, Value: string(l.CompressedDigest)},
			{Kind: keyDiffID, Value: string(l.DiffID)},
			{Kind: keyTOC, Value: string(l.TOCDigest)},
			{Kind: keyParent, Value: l.Parent},
		}
	},
	Hidden:     func(l *Layer) bool { return l.incomplete() },
	HiddenMark: flagIncomplete,
}

// The kinds of key that layers are found by, beside their ID.
const (
	keyCompressed = "compressed-diff-digest"
	keyDiffID     = "diff-digest"
	keyTOC        = "toc-digest"
	keyParent     = "parent"
)

// Config is what the Store was opened with.
func (s *Store) Config() Config { return s.cfg }

// View calls fn with layers.lock shared, and returns fn's error. fn must not keep tx,
// whose methods several goroutines may call. The first View or Update of a Store also
// removes what processes that are gone had staged.
func (s *Store) View(ctx context.Context, fn func(tx *ReadTx) error) error {
	s.tidy(ctx)
	return s.Inspect(ctx, fn)
}

// Inspect is View without that removal, for who wants to see what there is to remove.
func (s *Store) Inspect(ctx context.Context, fn func(tx *ReadTx) error) error {
	return s.records.View(ctx, func(own *catalog.ReadTx[Layer]) error {
		return catalog.Stack(ctx, own, s.below, func(records catalog.Reader[Layer]) error {
			return fn(&ReadTx{Records: records, store: s, own: own, all: records})
		})
	})
}

// Update calls fn with layers.lock held exclusively, after it has removed what dead
// processes left incomplete. What fn changed is saved when it returns nil; methods of
// WriteTx that must not wait for that save themselves and say so. Once the lock is
// released, the files of the layers that fn deleted are removed while the caller goes on;
// Wait says when they are gone.
//
// tx is for one goroutine. Update must not be called within View or Update: the lock
// would wait for itself.
func (s *Store) Update(ctx context.Context, fn func(tx *WriteTx) error) error {
	s.tidy(ctx)
	var trash []drivers.Trash
	err := s.records.Update(ctx, func(tx *catalog.WriteTx[Layer]) error {
		return catalog.Stack(ctx, &tx.ReadTx, s.below, func(all catalog.Reader[Layer]) error {
			w := &WriteTx{ReadTx: ReadTx{Records: all, store: s, own: &tx.ReadTx, all: all}, records: tx}
			defer func() { trash = w.trash }()
			if err := w.deleteIncomplete(ctx); err != nil {
				return err
			}
			return fn(w)
		})
	})
	s.reaper.take(trash)
	return err
}

// Wait returns when the files of all that was deleted so far are removed, with what
// couldn't be since the last Wait. When ctx ends it has that stopped: the rest is left to
// whoever opens the store next.
func (s *Store) Wait(ctx context.Context) error { return s.reaper.wait(ctx) }

// Close waits for files to be removed, and gives back what the driver holds.
func (s *Store) Close() error {
	return errors.Join(s.Wait(context.Background()), s.driver.Close())
}

// tmp is where tar-split files and data items are staged, and thrown away.
func (s *Store) tmp() string { return filepath.Join(s.cfg.Dir, "tmp") }

// TarSplitSuffix follows the ID in the name of a layer's tar-split file.
const TarSplitSuffix = ".tar-split.gz"

// TarSplit is the path of a layer's tar-split file, be the layer this store's own or
// another's.
func (s *Store) TarSplit(l Layer) string {
	if l.home != "" {
		return filepath.Join(l.home, l.ID+TarSplitSuffix)
	}
	return filepath.Join(s.cfg.Dir, l.ID+TarSplitSuffix)
}

// Items is the directory of a layer's data items, be the layer this store's own or
// another's.
func (s *Store) Items(l Layer) string {
	if l.home != "" {
		return filepath.Join(l.home, l.ID)
	}
	return s.dataDir(l.ID)
}

// dataDir is where a layer's data items are kept.
func (s *Store) dataDir(id string) string { return filepath.Join(s.cfg.Dir, id) }
