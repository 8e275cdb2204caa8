package store

import (
	"context"
	"fmt"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// Images returns all images in the order of their file, those of additional stores last.
func (s *Store) Images(ctx context.Context) ([]images.Image, error) {
	return viewImage(ctx, s, (*images.ReadTx).All)
}

// Image finds an image by ID, name or unique ID prefix; errdefs.ErrNotFound when there is
// none.
func (s *Store) Image(ctx context.Context, ref string) (images.Image, error) {
	return viewImage(ctx, s, func(tx *images.ReadTx) (images.Image, error) { return tx.Lookup(ref) })
}

// ImagesByDigest returns the images that answer to a digest, perhaps none.
func (s *Store) ImagesByDigest(ctx context.Context, d digest.Digest) ([]images.Image, error) {
	return viewImage(ctx, s, func(tx *images.ReadTx) ([]images.Image, error) { return tx.ByDigest(d) })
}

// ImagesByTopLayer returns the images whose top layer, or a mapped copy of it, is the
// given layer.
func (s *Store) ImagesByTopLayer(ctx context.Context, layer string) ([]images.Image, error) {
	l, err := s.Layer(ctx, layer)
	if err != nil {
		return nil, err
	}
	return viewImage(ctx, s, func(tx *images.ReadTx) ([]images.Image, error) { return tx.ByTopLayer(l.ID) })
}

// viewImage is View of the images alone, for functions with a result.
func viewImage[T any](ctx context.Context, s *Store, fn func(*images.ReadTx) (T, error)) (T, error) {
	var result T
	r, err := s.Roots(ctx)
	if err != nil {
		return result, err
	}
	err = r.Images.View(ctx, func(tx *images.ReadTx) (err error) {
		result, err = fn(tx)
		return err
	})
	return result, err
}

// CreateImage makes an image on top of a layer that exists, or of none. It survives a
// power cut from the moment that CreateImage returns.
//
// Errors are errdefs.ErrDuplicateID, errdefs.ErrDuplicateName, errdefs.ErrNotFound for
// the layer, and errdefs.ErrInvalid for an ID, a key or a digest that breaks its grammar.
func (s *Store) CreateImage(ctx context.Context, opts ImageOptions) (created images.Image, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return created, err
	}
	err = r.UpdateImages(ctx, func(l *layers.ReadTx, i *images.WriteTx) error {
		if opts.TopLayer != "" {
			top, err := l.Lookup(opts.TopLayer)
			if err != nil {
				return fmt.Errorf("top layer: %w", err)
			}
			opts.TopLayer = top.ID
		}
		created, err = i.Create(opts)
		return err
	})
	return created, err
}

// ImageBigDataNames returns the keys of an image's data items.
func (s *Store) ImageBigDataNames(ctx context.Context, ref string) ([]string, error) {
	image, err := s.Image(ctx, ref)
	return image.BigDataNames, err
}

// ImageBigData returns a data item of an image; errdefs.ErrNotFound when it has none
// under the key.
func (s *Store) ImageBigData(ctx context.Context, ref, key string) ([]byte, error) {
	return viewImage(ctx, s, func(tx *images.ReadTx) ([]byte, error) { return tx.BigData(ref, key) })
}

// ImageBigDataSize returns the size in bytes of a data item of an image.
func (s *Store) ImageBigDataSize(ctx context.Context, ref, key string) (int64, error) {
	return viewImage(ctx, s, func(tx *images.ReadTx) (int64, error) { return tx.BigDataSize(ref, key) })
}

// ImageBigDataDigest returns the digest recorded for a data item of an image.
func (s *Store) ImageBigDataDigest(ctx context.Context, ref, key string) (digest.Digest, error) {
	return viewImage(ctx, s, func(tx *images.ReadTx) (digest.Digest, error) { return tx.BigDataDigest(ref, key) })
}

// SetImageBigData stores a data item with an image, in place of one that has the same
// key. The digest of an item whose key begins with "manifest" is a digest of the image; d
// is recorded for it, or the SHA-256 of data when d is "".
func (s *Store) SetImageBigData(ctx context.Context, ref, key string, data []byte, d digest.Digest) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	return r.Images.Update(ctx, func(tx *images.WriteTx) error {
		return tx.SetBigData(ref, images.Item{Key: key, Data: data, Digest: d})
	})
}

// ImageDirectory makes and returns a directory in the graph root for those who use the
// image. It goes with the image.
func (s *Store) ImageDirectory(ctx context.Context, ref string) (string, error) {
	return viewImage(ctx, s, func(tx *images.ReadTx) (string, error) { return tx.Directory(ref) })
}

// ImageRunDirectory is ImageDirectory in the run root.
func (s *Store) ImageRunDirectory(ctx context.Context, ref string) (string, error) {
	return viewImage(ctx, s, func(tx *images.ReadTx) (string, error) { return tx.RunDirectory(ref) })
}

// ImageSize adds up, in bytes, the uncompressed tars of an image's layers and its data
// items. Layers that didn't come as a tar are measured.
func (s *Store) ImageSize(ctx context.Context, ref string) (int64, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	var image images.Image
	var chain map[string]layers.Layer
	err = r.Layers.View(ctx, func(l *layers.ReadTx) error {
		return r.Images.View(ctx, func(i *images.ReadTx) error {
			if image, err = i.Lookup(ref); err != nil {
				return err
			}
			chain, err = imageLayers(l, image)
			return err
		})
	})
	if err != nil {
		return 0, err
	}
	var total int64
	for id, layer := range chain {
		size := layer.Size()
		if layer.DiffID == "" || size < 0 {
			if size, err = r.Layers.DiffSize(ctx, id, ""); err != nil {
				return 0, err
			}
		}
		total += size
	}
	for _, key := range image.BigDataNames {
		size, err := s.ImageBigDataSize(ctx, image.ID, key)
		if err != nil {
			return 0, err
		}
		total += size
	}
	return total, nil
}

// imageLayers collects the layers of an image, the mapped copies of its top layer among
// them.
func imageLayers(l *layers.ReadTx, image images.Image) (map[string]layers.Layer, error) {
	all := map[string]layers.Layer{}
	for _, top := range append([]string{image.TopLayer}, image.MappedLayers...) {
		if top == "" {
			continue
		}
		chain, err := l.Chain(top)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", image.ID, err)
		}
		for _, layer := range chain {
			all[layer.ID] = layer
		}
	}
	return all, nil
}
