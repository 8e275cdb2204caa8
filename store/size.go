package store

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/diskusage"
	"github.com/shalestore/shale/layers"
)

// DiffSize estimates, in bytes, the content of Diff: the sizes of added and changed
// files. Errors are those of Diff.
func (s *Store) DiffSize(ctx context.Context, to, from string) (int64, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	return r.Layers.DiffSize(ctx, to, from)
}

// Size measures a layer, an image or a container (errdefs.Layer, errdefs.Image,
// errdefs.Container), in bytes:
//
//   - a layer is as large as its uncompressed tar; one that didn't come as a tar is
//     measured as DiffSize does it;
//   - an image adds up its layers, the copies of its top layer with other owners among
//     them, and its data items;
//   - a container adds up what its layer has changed, its data items and its two
//     directories.
//
// No lock is held while files are counted. What is deleted or changed meanwhile is
// errdefs.ErrBusy or errdefs.ErrNotFound, and any other kind errdefs.ErrInvalid.
func (s *Store) Size(ctx context.Context, kind errdefs.Kind, ref string) (total int64, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	var own map[string]layers.Layer
	var dirs []string
	err = s.View(ctx, func(tx *ReadTx) error {
		switch kind {
		case errdefs.Layer:
			layer, err := tx.Layer(ref)
			own = map[string]layers.Layer{layer.ID: layer}
			return err
		case errdefs.Image:
			own, total, err = tx.imageParts(ref)
		case errdefs.Container:
			own, total, dirs, err = tx.containerParts(ref)
		default:
			err = fmt.Errorf("size of %s %q: %w: no such kind", kind, ref, errdefs.ErrInvalid)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	for id, layer := range own {
		size := layer.Size()
		if layer.DiffID == "" || size < 0 {
			if size, err = r.Layers.DiffSize(ctx, id, ""); err != nil {
				return 0, fmt.Errorf("%s %s: %w", kind, ref, err)
			}
		}
		total += size
	}
	for _, dir := range dirs {
		tree, err := diskusage.Count(ctx, dir)
		if err != nil {
			return 0, err
		}
		total += tree.Size
	}
	return total, nil
}

// imageParts are the layers of an image, and the size of its data items.
func (tx *ReadTx) imageParts(ref string) (own map[string]layers.Layer, items int64, err error) {
	l, err := tx.tx.Layers() // before the image
	if err != nil {
		return nil, 0, err
	}
	image, err := tx.Image(ref)
	if err != nil {
		return nil, 0, err
	}
	own = map[string]layers.Layer{}
	for _, top := range append([]string{image.TopLayer}, image.MappedLayers...) {
		if top == "" {
			continue
		}
		chain, err := l.Chain(top)
		if err != nil {
			return nil, 0, fmt.Errorf("image %s: %w", image.ID, err)
		}
		for _, layer := range chain {
			own[layer.ID] = layer
		}
	}
	items, err = itemSizes(image.ID, image.BigDataNames, tx.ImageBigDataSize)
	return own, items, err
}

// containerParts are the layer of a container, to be measured in any case, the size of
// its data items, and its directories.
func (tx *ReadTx) containerParts(ref string) (own map[string]layers.Layer, items int64, dirs []string, err error) {
	container, err := tx.Container(ref)
	if err != nil {
		return nil, 0, nil, err
	}
	dirs = make([]string, 2)
	if dirs[0], err = tx.ContainerDirectory(container.ID); err != nil {
		return nil, 0, nil, err
	}
	if dirs[1], err = tx.ContainerRunDirectory(container.ID); err != nil {
		return nil, 0, nil, err
	}
	items, err = itemSizes(container.ID, container.BigDataNames, tx.ContainerBigDataSize)
	return map[string]layers.Layer{container.LayerID: {}}, items, dirs, err
}

// itemSizes adds up the data items of an image or a container.
func itemSizes(id string, keys []string, sizeOf func(id, key string) (int64, error)) (total int64, err error) {
	for _, key := range keys {
		size, err := sizeOf(id, key)
		if err != nil {
			return 0, err
		}
		total += size
	}
	return total, nil
}
