package images

import (
	"context"
	"path/filepath"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/errdefs"
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
	cfg     Config
	records *catalog.Catalog[Image]
	graph   *catalog.Catalog[Image] // of GraphDir, or nil
	below   []catalog.Below[Image]  // of ReadOnly
}

// Open returns a Store. It does no I/O.
func Open(cfg Config) *Store {
	s := &Store{cfg: cfg, records: catalog.New(schema, lockPath(cfg.Dir), recordsFile(cfg.Dir))}
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
		for _, name := range i.Names {
			keys = append(keys, catalog.Key{Kind: keyName, Value: name})
		}
		for _, id := range i.MappedLayers {
			keys = append(keys, catalog.Key{Kind: keyMappedLayer, Value: id})
		}
		return keys
	},
}

// The kinds of key that images are found by, beside their ID.
const (
	keyName        = "name"
	keyDigest      = "digest"
	keyTopLayer    = "top layer"
	keyMappedLayer = "mapped layer"
)

// View calls fn with images.lock shared, and returns fn's error. fn must not keep tx,
// whose methods several goroutines may call.
func (s *Store) View(ctx context.Context, fn func(tx *ReadTx) error) error {
	return s.records.View(ctx, func(own *catalog.ReadTx[Image]) error {
		return catalog.Stack(ctx, own, s.beneath(nil), func(records catalog.Reader[Image]) error {
			return fn(&ReadTx{store: s, own: own, records: records})
		})
	})
}

// Recall is catalog.Catalog.Recall: fn gets a guess. There is none in a store that looks
// into others.
func (s *Store) Recall(fn func(tx *ReadTx)) bool {
	return len(s.beneath(nil)) == 0 && s.records.Recall(func(own *catalog.ReadTx[Image]) {
		fn(&ReadTx{store: s, own: own, records: own})
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
		return fn(&WriteTx{ReadTx: ReadTx{store: s, own: &own.ReadTx, records: records}, records: own, graph: graph})
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

// dataDir is where the data items of an image with this ID are, if it is in the store's
// first catalog.
func (s *Store) dataDir(id string) string { return filepath.Join(s.cfg.Dir, id) }

// itemsOf is where an image's data items are.
func (s *Store) itemsOf(i Image) string {
	if i.home != "" {
		return filepath.Join(i.home, i.ID)
	}
	return s.dataDir(i.ID)
}

// runDir is the image's directory in the run root.
func (s *Store) runDir(id string) string { return filepath.Join(s.cfg.RunDir, id) }

// ReadTx is a look at the images while nobody changes them.
type ReadTx struct {
	store   *Store
	own     *catalog.ReadTx[Image] // those of the first catalog
	records catalog.Reader[Image]  // and all others
}

// Lookup finds an image by ID, name or unique ID prefix, in this order;
// errdefs.ErrNotFound when there is none.
func (tx *ReadTx) Lookup(ref string) (Image, error) { return tx.records.Lookup(ref) }

// Get finds an image by its whole ID; errdefs.ErrNotFound when there is none.
func (tx *ReadTx) Get(id string) (Image, error) { return tx.records.Get(id) }

// All returns the images in the order of their files, those of read-only stores last.
func (tx *ReadTx) All() ([]Image, error) { return tx.records.All() }

// ByDigest returns the images that answer to a digest; none is no error.
func (tx *ReadTx) ByDigest(d digest.Digest) ([]Image, error) {
	return tx.records.Find(keyDigest, string(d))
}

// ByTopLayer returns the images whose top layer, or a mapped copy of it, has this ID;
// none is no error.
func (tx *ReadTx) ByTopLayer(id string) ([]Image, error) {
	tops, err := tx.records.Find(keyTopLayer, id)
	if err != nil {
		return nil, err
	}
	mapped, err := tx.records.Find(keyMappedLayer, id)
	return append(tops, mapped...), err
}

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
