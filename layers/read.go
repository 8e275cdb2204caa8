package layers

import (
	"context"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/catalog"
)

// ReadTx is a look at the layers while nobody changes them. Layers that others left
// incomplete don't exist for it.
type ReadTx struct {
	catalog.Records[Layer]
	store *Store
	own   *catalog.ReadTx[Layer] // the store's own layers
	all   catalog.Reader[Layer]  // and those of read-only stores
}

// ByCompressedDigest returns the layers whose blob has the digest; none is no error.
func (tx *ReadTx) ByCompressedDigest(d digest.Digest) ([]Layer, error) {
	return tx.all.Find(keyCompressed, string(d))
}

// ByDiffID returns the layers whose uncompressed tar has the digest; none is no error.
func (tx *ReadTx) ByDiffID(d digest.Digest) ([]Layer, error) {
	return tx.all.Find(keyDiffID, string(d))
}

// ByTOCDigest returns the layers that were pulled by this table of contents; none is no
// error.
func (tx *ReadTx) ByTOCDigest(d digest.Digest) ([]Layer, error) {
	return tx.all.Find(keyTOC, string(d))
}

// InImageStore reports whether the record is among those of the image store, where layers
// that aren't writable are then.
func (tx *ReadTx) InImageStore(id string) bool {
	file, err := tx.own.FileOf(id)
	return err == nil && tx.store.cfg.ImageDir != "" && file == tx.store.files.image
}

// Incomplete returns the layers that a dead writer of containers/storage left half made
// or half deleted. For everybody else they don't exist.
func (tx *ReadTx) Incomplete() ([]Layer, error) { return tx.all.Hidden() }

// Children returns the layers right on top of the layer with this ID.
func (tx *ReadTx) Children(id string) ([]Layer, error) { return tx.all.Find(keyParent, id) }

// Chain returns the layer with this ID and its parents, downwards. Where one is missing
// it returns those above it, and errdefs.ErrNotFound.
func (tx *ReadTx) Chain(id string) ([]Layer, error) {
	var chain []Layer
	for seen := map[string]bool{}; id != "" && !seen[id]; {
		seen[id] = true // a damaged file may hold a circle
		layer, err := tx.Get(id)
		if err != nil {
			return chain, err
		}
		chain = append(chain, layer)
		id = layer.Parent
	}
	return chain, nil
}

// Settle has the records saved without contradictions.
func (tx *WriteTx) Settle() error { return tx.records.Settle() }

// Salvage replaces damaged files of records by what can be read of them: see
// catalog.Catalog.Salvage.
func (s *Store) Salvage(ctx context.Context) ([]catalog.Salvaged, error) {
	return s.records.Salvage(ctx)
}
