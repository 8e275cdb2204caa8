package store

import (
	"context"
	"errors"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/internal/roots"
)

// Wipe deletes all containers, images and layers, and the layers' directories that no
// record knows: errdefs.ErrInUse if a layer is mounted and opts don't force it. What is
// in additional stores stays. If it is interrupted, what is left is whole, and can be
// wiped again.
func (s *Store) Wipe(ctx context.Context, opts DeleteOptions) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	err = r.UpdateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		allLayers, err := l.All()
		if err != nil {
			return err
		}
		var ids []string
		for _, layer := range allLayers {
			if !layer.ReadOnly {
				ids = append(ids, layer.ID)
			}
		}
		if err := refuseMounted(ctx, l, opts, ids...); err != nil || opts.DryRun {
			return err
		}
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
			if image.ReadOnly {
				continue
			}
			if err := roots.DeleteImage(ctx, image.ID, l, i); err != nil {
				return err
			}
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
