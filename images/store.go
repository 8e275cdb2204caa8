package images

import (
	"cmp"
	"context"
	"path/filepath"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/internal/ident"
)

// Config says where a Store lies.
type Config struct {
	// Dir is overlay-images in the graph root; RunDir the one in the run root.
	Dir, RunDir string
	// GraphDir is overlay-images in the graph root when images belong into an image
	// store, which Dir is then. Its images are found after those in Dir, and can be
	// changed and deleted; new ones go into Dir.
	GraphDir string
	// ReadOnly are the same directories in other stores. Their images are found last, in
	// this order.
	ReadOnly []string
}

// Store is the images under one root. It may be used from several goroutines; Stores of
// the same root, in this process or others, see each other's changes.
type Store struct {
	bigdata.Owners[Image]
	cfg     Config
	records *catalog.Catalog[Image]
	graph   *catalog.Catalog[Image] // of GraphDir, or nil
	below   []catalog.Below[Image]  // of ReadOnly
}

// Open returns a Store. It does no I/O.
func Open(cfg Config) *Store {
	s := &Store{Owners: bigdata.NewOwners(errdefs.Image, cfg.owner), cfg: cfg,
		records: catalog.New(schema, lockPath(cfg.Dir), recordsFile(cfg.Dir))}
	if cfg.GraphDir != "" {
		s.graph = catalog.New(schema, lockPath(cfg.GraphDir), recordsFile(cfg.GraphDir))
	}
	for _, dir := range cfg.ReadOnly {
		s.below = append(s.below, catalog.Below[Image]{
			Catalog: catalog.NewReadOnly(schema, lockPath(dir), recordsFile(dir)),
			Mark:    func(i *Image) { i.ReadOnly, i.home = true, dir },
		})
	}
	return s
}

// owner tells where what belongs to an image is.
func (cfg Config) owner(i *Image) bigdata.Owner {
	o := bigdata.Owner{
		ID: i.ID, Home: filepath.Join(cmp.Or(i.home, cfg.Dir), i.ID), RunDir: filepath.Join(cfg.RunDir, i.ID),
		Items: bigdata.Index{Names: &i.BigDataNames, Sizes: &i.BigDataSizes, Digests: &i.BigDataDigests},
	}
	if i.ReadOnly {
		o.ReadOnly = i.refuse()
	}
	return o
}

func lockPath(dir string) string { return filepath.Join(dir, "images.lock") }

func recordsFile(dir string) catalog.File {
	return catalog.File{Path: filepath.Join(dir, "images.json")}
}

var schema = catalog.Schema[Image]{
	Kind:       errdefs.Image,
	TokenTells: true,
	ValidID:    ident.Validate,
	ID:         func(i *Image) string { return i.ID },
	Names:      func(i *Image) []string { return i.Names },
	SetNames:   func(i *Image, names []string) { i.Names = names },
	Keys: func(i *Image) []catalog.Key {
		keys := []catalog.Key{{Kind: keyTopLayer, Value: i.TopLayer}}
		for _, d := range i.Digests() {
			keys = append(keys, catalog.Key{Kind: keyDigest, Value: string(d)})
		}
		for _, id := range i.MappedLayers {
			keys = append(keys, catalog.Key{Kind: keyMappedLayer, Value: id})
		}
		return keys
	},
}

// The kinds of key that images are found by, beside their ID.
const (
	keyDigest      = "digest"
	keyTopLayer    = "top layer"
	keyMappedLayer = "mapped layer"
)

// View calls fn with images.lock shared, and returns fn's error. fn must not keep tx,
// whose methods several goroutines may call.
func (s *Store) View(ctx context.Context, fn func(tx *ReadTx) error) error {
	return s.records.View(ctx, func(own *catalog.ReadTx[Image]) error {
		return catalog.Stack(ctx, own, s.beneath(nil), func(records catalog.Reader[Image]) error {
			read := s.read(own, records)
			return fn(&read)
		})
	})
}

// Update calls fn with images.lock held exclusively, and saves what it changed when it
// returns nil. tx is for one goroutine. It must not be called within View or Update.
func (s *Store) Update(ctx context.Context, fn func(tx *WriteTx) error) error {
	return s.records.Update(ctx, func(own *catalog.WriteTx[Image]) error {
		if s.graph == nil {
			return s.update(ctx, own, nil, fn)
		}
		return s.graph.Update(ctx, func(graph *catalog.WriteTx[Image]) error { return s.update(ctx, own, graph, fn) })
	})
}

func (s *Store) update(ctx context.Context, own, graph *catalog.WriteTx[Image], fn func(tx *WriteTx) error) error {
	return catalog.Stack(ctx, &own.ReadTx, s.beneath(graph), func(records catalog.Reader[Image]) error {
		tx := &WriteTx{ReadTx: s.read(&own.ReadTx, records), records: own, graph: graph}
		tx.WriteTx = bigdata.NewWriteTx(tx.ReadTx.ReadTx, (*Image).settleDigest, tx.Replace)
		return fn(tx)
	})
}

// beneath lists what is looked into after the store's first catalog. graph is a
// transaction of the second one, if there is one already.
func (s *Store) beneath(graph *catalog.WriteTx[Image]) []catalog.Below[Image] {
	if s.graph == nil {
		return s.below
	}
	second := catalog.Below[Image]{Catalog: s.graph, Mark: func(i *Image) { i.home = s.cfg.GraphDir }}
	if graph != nil {
		second.Tx = &graph.ReadTx
	}
	return append([]catalog.Below[Image]{second}, s.below...)
}

// ReadTx is a look at the images while nobody changes them.
type ReadTx struct {
	catalog.Records[Image]
	bigdata.ReadTx[Image]
	store *Store
	own   *catalog.ReadTx[Image] // those of the first catalog
	all   catalog.Reader[Image]  // and all others
}

func (s *Store) read(own *catalog.ReadTx[Image], all catalog.Reader[Image]) ReadTx {
	return ReadTx{Records: all, ReadTx: bigdata.NewReadTx(s.Owners, all.Lookup), store: s, own: own, all: all}
}

// ByDigest returns the images that answer to a digest; none is no error.
func (tx *ReadTx) ByDigest(d digest.Digest) ([]Image, error) {
	return tx.all.Find(keyDigest, string(d))
}

// ByTopLayer returns the images whose top layer, or a mapped copy of it, has this ID;
// none is no error.
func (tx *ReadTx) ByTopLayer(id string) ([]Image, error) {
	tops, err := tx.all.Find(keyTopLayer, id)
	if err != nil {
		return nil, err
	}
	mapped, err := tx.all.Find(keyMappedLayer, id)
	return append(tops, mapped...), err
}

// Settle has the records saved without contradictions.
func (tx *WriteTx) Settle() error { return tx.records.Settle() }

// Salvage replaces damaged files of records by what can be read of them: see
// catalog.Catalog.Salvage.
func (s *Store) Salvage(ctx context.Context) ([]catalog.Salvaged, error) {
	return s.records.Salvage(ctx)
}
