package store

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/diskusage"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/internal/roots"
)

// DiffSize estimates, in bytes, the content of Diff: the sizes of added and changed
// files.
func (s *Store) DiffSize(ctx context.Context, to, from string) (int64, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	return r.Layers.DiffSize(ctx, to, from)
}

// LayerSize is the size of a layer's uncompressed tar in bytes. A layer that didn't come
// as one is measured, as DiffSize does it.
func (s *Store) LayerSize(ctx context.Context, ref string) (int64, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	var layer layers.Layer
	err = r.Layers.View(ctx, func(l *layers.ReadTx) error {
		layer, err = l.Lookup(ref)
		return err
	})
	if err != nil {
		return 0, err
	}
	return layerSize(ctx, r, layer)
}

func layerSize(ctx context.Context, r *roots.Roots, layer layers.Layer) (int64, error) {
	if size := layer.Size(); layer.DiffID != "" && size >= 0 {
		return size, nil
	}
	return r.Layers.DiffSize(ctx, layer.ID, "")
}

// ImageSize adds up, in bytes, what LayerSize says of an image's layers, and its data
// items.
func (s *Store) ImageSize(ctx context.Context, ref string) (total int64, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	var chain map[string]layers.Layer
	err = r.ViewImages(ctx, func(l *layers.ReadTx, i *images.ReadTx) error {
		image, err := i.Lookup(ref)
		if err != nil {
			return err
		}
		if total, err = itemSizes(image.ID, image.BigDataNames, i.BigDataSize); err != nil {
			return err
		}
		chain, err = imageLayers(l, image)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, layer := range chain {
		size, err := layerSize(ctx, r, layer)
		if err != nil {
			return 0, err
		}
		total += size
	}
	return total, nil
}

// ContainerSize adds up, in bytes, what a container's layer has changed, its data items
// and its two directories.
func (s *Store) ContainerSize(ctx context.Context, ref string) (total int64, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	var container containers.Container
	var dirs [2]string
	err = r.Containers.View(ctx, func(c *containers.ReadTx) error {
		if container, err = c.Lookup(ref); err != nil {
			return err
		}
		if total, err = itemSizes(container.ID, container.BigDataNames, c.BigDataSize); err != nil {
			return err
		}
		if dirs[0], err = c.Directory(container.ID); err != nil {
			return err
		}
		dirs[1], err = c.RunDirectory(container.ID)
		return err
	})
	if err != nil {
		return 0, err
	}
	changed, err := r.Layers.DiffSize(ctx, container.LayerID, "")
	if err != nil {
		return 0, fmt.Errorf("container %s: %w", container.ID, err)
	}
	total += changed
	for _, dir := range dirs {
		tree, err := diskusage.Count(ctx, dir)
		if err != nil {
			return 0, err
		}
		total += tree.Size
	}
	return total, nil
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
