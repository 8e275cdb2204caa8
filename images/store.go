package images

import (
	"context"
	"path/filepath"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/catalog"
)

// Config says where a Store lies.
type Config struct {
	// Dir is overlay-images in the graph root; RunDir the one in the run root.
	Dir, RunDir string
}

// Store is the images under one root. It may be used from several goroutines.
type Store struct {
	cfg     Config
	records *catalog.Catalog[Image]
}

// Open returns a Store. It does no I/O.
func Open(cfg Config) *Store {
	return &Store{cfg: cfg, records: catalog.New(schema, filepath.Join(cfg.Dir, "images.lock"),
		catalog.File{Path: filepath.Join(cfg.Dir, "images.json")})}
}

var schema = catalog.Schema[Image]{
	Kind:     "image",
	ID:       func(i *Image) string { return i.ID },
	Names:    func(i *Image) []string { return i.Names },
	SetNames: func(i *Image, names []string) { i.Names = names },
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

// View calls fn with images.lock shared. fn must not keep tx.
func (s *Store) View(ctx context.Context, fn func(tx *ReadTx) error) error {
	return s.records.View(ctx, func(tx *catalog.ReadTx[Image]) error {
		return fn(&ReadTx{store: s, records: tx})
	})
}

// Update calls fn with images.lock held exclusively, and saves what it changed when it returns nil. It must not be called within View or Update.
func (s *Store) Update(ctx context.Context, fn func(tx *WriteTx) error) error {
	return s.records.Update(ctx, func(tx *catalog.WriteTx[Image]) error {
		return fn(&WriteTx{ReadTx: ReadTx{store: s, records: tx}, records: tx})
	})
}

// dataDir is where an image's data items are.
func (s *Store) dataDir(id string) string { return filepath.Join(s.cfg.Dir, id) }

// runDir is the image's directory in the run root.
func (s *Store) runDir(id string) string { return filepath.Join(s.cfg.RunDir, id) }

// ReadTx is a look at the images while nobody changes them.
type ReadTx struct {
	store   *Store
	records reader
}

// reader is what both kinds of transaction of the catalog can do.
type reader interface {
	Get(id string) (Image, error)
	Lookup(ref string) (Image, error)
	Find(kind, key string) ([]Image, error)
	All() ([]Image, error)
	Contradictions() ([]catalog.Contradiction, error)
	CheckIDs() error
}

// Lookup finds an image by ID, name or unique ID prefix, in this order; errdefs.ErrNotFound when there is none.
func (tx *ReadTx) Lookup(ref string) (Image, error) { return tx.records.Lookup(ref) }

// Get finds an image by its whole ID.
func (tx *ReadTx) Get(id string) (Image, error) { return tx.records.Get(id) }

// All returns the images in the order of their file.
func (tx *ReadTx) All() ([]Image, error) { return tx.records.All() }

// ByDigest returns the images that answer to a digest.
func (tx *ReadTx) ByDigest(d digest.Digest) ([]Image, error) {
	return tx.records.Find(keyDigest, string(d))
}

// ByTopLayer returns the images whose top layer, or a mapped copy of it, has this ID.
func (tx *ReadTx) ByTopLayer(id string) ([]Image, error) {
	tops, err := tx.records.Find(keyTopLayer, id)
	if err != nil {
		return nil, err
	}
	mapped, err := tx.records.Find(keyMappedLayer, id)
	return append(tops, mapped...), err
}

// Contradictions are names and IDs that several records have, which readers get over by a rule. A record without an ID is errdefs.ErrCorrupt.
func (tx *ReadTx) Contradictions() ([]catalog.Contradiction, error) {
	if err := tx.records.CheckIDs(); err != nil {
		return nil, err
	}
	return tx.records.Contradictions()
}

// Settle has the records saved without contradictions.
func (tx *WriteTx) Settle() error { return tx.records.Settle() }

// Salvage replaces damaged files of records by what can be read of them: see catalog.Catalog.Salvage.
func (s *Store) Salvage(ctx context.Context) ([]catalog.Salvaged, error) {
	return s.records.Salvage(ctx)
}
