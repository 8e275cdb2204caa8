package containers

import (
	"context"
	"path/filepath"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/bigdata"
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
	bigdata.Owners[Container]
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
	owners := bigdata.NewOwners(errdefs.Container, func(c *Container) bigdata.Owner {
		return bigdata.Owner{ID: c.ID, Home: filepath.Join(cfg.Dir, c.ID), RunDir: filepath.Join(cfg.RunDir, c.ID),
			Items: bigdata.Index{Names: &c.BigDataNames, Sizes: &c.BigDataSizes, Digests: &c.BigDataDigests}}
	})
	return &Store{Owners: owners, cfg: cfg, records: catalog.New(schema, filepath.Join(volatileDir, "containers.lock"),
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
		return []catalog.Key{{Kind: keyLayer, Value: c.LayerID}, {Kind: keyImage, Value: c.ImageID}}
	},
	Alias: keyLayer,
}

// The kinds of key that containers are found by, beside their ID.
const (
	keyLayer = "layer"
	keyImage = "image"
)

// View calls fn with containers.lock shared, and returns fn's error. fn must not keep tx,
// whose methods several goroutines may call.
func (s *Store) View(ctx context.Context, fn func(tx *ReadTx) error) error {
	return s.records.View(ctx, func(tx *catalog.ReadTx[Container]) error {
		read := s.read(tx)
		return fn(&read)
	})
}

// Update calls fn with containers.lock held exclusively, and saves what it changed when
// it returns nil. tx is for one goroutine. It must not be called within View or Update.
func (s *Store) Update(ctx context.Context, fn func(tx *WriteTx) error) error {
	return s.records.Update(ctx, func(tx *catalog.WriteTx[Container]) error {
		read := s.read(&tx.ReadTx)
		return fn(&WriteTx{ReadTx: read, WriteTx: bigdata.NewWriteTx(read.ReadTx, nil, tx.Replace), records: tx})
	})
}

// ReadTx is a look at the containers while nobody changes them. Lookup finds a container
// by the ID of its layer as well.
type ReadTx struct {
	catalog.Records[Container]
	bigdata.ReadTx[Container]
	store *Store
	own   *catalog.ReadTx[Container]
}

func (s *Store) read(own *catalog.ReadTx[Container]) ReadTx {
	return ReadTx{Records: own, ReadTx: bigdata.NewReadTx(s.Owners, own.Lookup), store: s, own: own}
}

// ByLayer returns the container whose layer has this ID; errdefs.ErrNotFound when it
// isn't a container's.
func (tx *ReadTx) ByLayer(id string) (Container, error) {
	found, err := tx.own.Find(keyLayer, id)
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
func (tx *ReadTx) ByImage(id string) ([]Container, error) { return tx.own.Find(keyImage, id) }

// Settle has the records saved without contradictions.
func (tx *WriteTx) Settle() error { return tx.records.Settle() }

// Salvage replaces damaged files of records by what can be read of them: see
// catalog.Catalog.Salvage.
func (s *Store) Salvage(ctx context.Context) ([]catalog.Salvaged, error) {
	return s.records.Salvage(ctx)
}
