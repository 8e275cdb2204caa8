package store

import (
	"context"
	"errors"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/internal/roots"
)

// Wipe deletes all containers, images and layers, mounted or not, and the layers'
// directories that no record knows. If it is interrupted, what is left is whole, and can
// be wiped again.
func (s *Store) Wipe(ctx context.Context) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	err = r.UpdateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		allContainers, err := c.All()
		if err != nil {
			return err
		}
		var left [][]string
		for _, container := range allContainers {
			dirs, err := c.Remove(container.ID)
			if err != nil {
				return err
			}
			left = append(left, dirs)
		}
		if err := c.Records().Save(); err != nil {
			return err
		}
		for _, dirs := range left {
			if err := roots.Discard(ctx, dirs, l); err != nil {
				return err
			}
		}
		allImages, err := i.All()
		if err != nil {
			return err
		}
		for _, image := range allImages {
			if err := roots.DeleteImage(ctx, image.ID, l, i); err != nil {
				return err
			}
		}
		allLayers, err := l.All()
		if err != nil {
			return err
		}
		ids := make([]string, len(allLayers))
		for n, layer := range allLayers {
			ids[n] = layer.ID
		}
		if err := l.Delete(ctx, ids...); err != nil {
			return err
		}
		unrecorded, err := r.Driver.List(ctx)
		for _, id := range unrecorded {
			err = errors.Join(err, l.DiscardFiles(ctx, id))
		}
		return err
	})
	return errors.Join(err, s.Wait(ctx))
}
