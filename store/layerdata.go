package store

import (
	"context"
	"io"

	"github.com/shalestore/shale/layers"
)

// LayerBigDataNames returns the keys of a layer's data items.
func (s *Store) LayerBigDataNames(ctx context.Context, ref string) ([]string, error) {
	layer, err := s.Layer(ctx, ref)
	return layer.BigDataNames, err
}

// LayerBigData opens a data item of a layer; errdefs.ErrNotFound when it has none under
// the key. The caller closes it, and reads what it was when it was opened even if it is
// replaced meanwhile.
func (s *Store) LayerBigData(ctx context.Context, ref, key string) (io.ReadCloser, error) {
	return viewLayer(ctx, s, func(tx *layers.ReadTx) (io.ReadCloser, error) { return tx.BigData(ref, key) })
}

// SetLayerBigData stores a data item with a layer, in place of one that has the same key.
// No lock is held while data is read.
func (s *Store) SetLayerBigData(ctx context.Context, ref, key string, data io.Reader) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	if _, err := s.Layer(ctx, ref); err != nil {
		return err
	}
	item, err := r.Layers.StageItem(key, data)
	if err != nil {
		return err
	}
	defer item.Close()
	return r.Layers.Update(ctx, func(tx *layers.WriteTx) error { return tx.SetBigData(ref, item) })
}
