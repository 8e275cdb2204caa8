package containers

import (
	"context"
	"path/filepath"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/ident"
)

// Config says where a Store lies.
type Config struct {
	// Dir is overlay-containers in the graph root; RunDir the one in the run root.
	Dir, RunDir string
	// Transient makes every container volatile, and puts the lock and the volatile
	// records into RunDir.
	Transient bool
}

// Store is the containers under one root. It may be used from several goroutines; Stores
// of the same root, in this process or others, see each other's changes.
type Store struct {
	cfg     Config
	records *catalog.Catalog[Container]
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
	return &Store{cfg: cfg, records: catalog.New(schema, filepath.Join(volatileDir, "containers.lock"),
		catalog.File{Path: filepath.Join(cfg.Dir, "containers.json")},
		catalog.File{Path: filepath.Join(volatileDir, "volatile-containers.json"), Volatile: true})}
}

var schema = catalog.Schema[Container]{
	Kind:       errdefs.Container,
	TokenTells: true,
	ValidID:    ident.Validate,
	ID:         func(c *Container) string { return c.ID },
	Names:      func(c *Container) []string { return c.Names },
	SetNames:   func(c *Container, names []string) { c.Names = names },
	Keys: func(c *Container) []catalog.Key {
		keys := []catalog.Key{{Kind: keyLayer, Value: c.LayerID}, {Kind: keyImage, Value: c.ImageID}}
		for _, name := range c.Names {
			keys = append(keys, catalog.Key{Kind: keyName, Value: name})
		}
		return keys
	},
	Alias: keyLayer,
}

// The kinds of key that containers are found by, beside their ID.
const (
	keyName  = "name"
	keyLayer = "layer"
	keyImage = "image"
)

// View calls fn with containers.lock shared, and returns fn's error. fn must not keep tx,
// whose methods several goroutines may call.
func (s *Store) View(ctx context.Context, fn func(tx *ReadTx) error) error {
	return s.records.View(ctx, func(tx *catalog.ReadTx[Container]) error {
		return fn(&ReadTx{store: s, records: tx})
	})
}

// Recall is catalog.Catalog.Recall: fn gets a guess.
func (s *Store) Recall(fn func(tx *ReadTx)) bool {
	return s.records.Recall(func(tx *catalog.ReadTx[Container]) { fn(&ReadTx{store: s, records: tx}) })
}

// Update calls fn with containers.lock held exclusively, and saves what it changed when
// it returns nil. tx is for one goroutine. It must not be called within View or Update.
func (s *Store) Update(ctx context.Context, fn func(tx *WriteTx) error) error {
	return s.records.Update(ctx, func(tx *catalog.WriteTx[Container]) error {
		return fn(&WriteTx{ReadTx: ReadTx{store: s, records: tx}, records: tx})
	})
}

// dataDir is where a container's data items are.
func (s *Store) dataDir(id string) string { return filepath.Join(s.cfg.Dir, id) }

// runDir is the container's directory in the run root.
func (s *Store) runDir(id string) string { return filepath.Join(s.cfg.RunDir, id) }

// ReadTx is a look at the containers while nobody changes them.
type ReadTx struct {
	store   *Store
	records reader
}

// reader is what both kinds of transaction of the catalog can do.
type reader interface {
	Get(id string) (Container, error)
	Lookup(ref string) (Container, error)
	Find(kind, key string) ([]Container, error)
	All() ([]Container, error)
	Contradictions() ([]catalog.Contradiction, error)
	CheckFree(id string, names []string) (Container, error)
}

// Lookup finds a container by ID, name, the ID of its layer or unique ID prefix, in this
// order; errdefs.ErrNotFound when there is none.
func (tx *ReadTx) Lookup(ref string) (Container, error) { return tx.records.Lookup(ref) }

// Get finds a container by its whole ID; errdefs.ErrNotFound when there is none.
func (tx *ReadTx) Get(id string) (Container, error) { return tx.records.Get(id) }

// All returns the containers in the order of their files: stable ones before volatile
// ones.
func (tx *ReadTx) All() ([]Container, error) { return tx.records.All() }

// ByLayer returns the container whose layer has this ID; errdefs.ErrNotFound when it
// isn't a container's.
func (tx *ReadTx) ByLayer(id string) (Container, error) {
	found, err := tx.records.Find(keyLayer, id)
	if err != nil {
		return Container{}, err
	}
	if len(found) == 0 {
		return Container{}, errdefs.Missing{Kind: "container of layer", Ref: id}
	}
	return found[len(found)-1], nil
}

// ByImage returns the containers that were made from the image with this ID; none is no
// error.
func (tx *ReadTx) ByImage(id string) ([]Container, error) { return tx.records.Find(keyImage, id) }

// Contradictions are names and IDs that several records have, which readers get over by a
// rule. A record without an ID is errdefs.ErrCorrupt.
func (tx *ReadTx) Contradictions() ([]catalog.Contradiction, error) {
	return tx.records.Contradictions()
}

// Settle has the records saved without contradictions.
func (tx *WriteTx) Settle() error { return tx.records.Settle() }

// Salvage replaces damaged files of records by what can be read of them: see
// catalog.Catalog.Salvage.
func (s *Store) Salvage(ctx context.Context) ([]catalog.Salvaged, error) {
	return s.records.Salvage(ctx)
}
