package store

import (
	"context"
	"errors"
	"slices"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/internal/roots"
)

// DeleteOptions says how a deletion goes.
type DeleteOptions struct {
	// Force unmounts what is mounted, and deletes it.
	Force bool
	// DryRun answers as the deletion would, and deletes nothing.
	DryRun bool
}

// DeleteLayer deletes a layer that nothing needs: errdefs.ErrInUse, as an errdefs.InUse
// that says by what, if it has a child, is an image's top layer or a container's, or is
// mounted and opts don't force it. From the moment that DeleteLayer returns the layer
// stays gone, whatever happens. Its files are out of sight then, and removed meanwhile or
// later: see Wait.
func (s *Store) DeleteLayer(ctx context.Context, ref string, opts DeleteOptions) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	return r.UpdateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		layer, err := l.Lookup(ref)
		if err != nil {
			return err
		}
		if err := l.CheckChildless(layer.ID); err != nil {
			return err
		}
		users, err := i.ByTopLayer(layer.ID)
		if err != nil {
			return err
		}
		for _, image := range users {
			if image.TopLayer == layer.ID {
				return errdefs.InUse{Kind: errdefs.Layer, ID: layer.ID, By: errdefs.Image, ByID: image.ID}
			}
		}
		owner, err := c.ByLayer(layer.ID)
		if err == nil {
			return errdefs.InUse{Kind: errdefs.Layer, ID: layer.ID, By: errdefs.Container, ByID: owner.ID}
		}
		if !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		if err := refuseMounted(ctx, l, opts, layer.ID); err != nil || opts.DryRun {
			return err
		}
		if err := l.Delete(ctx, layer.ID); err != nil {
			return err
		}
		for _, image := range users { // it was a translated copy of their top layers
			if err := i.ForgetMappedLayer(image.ID, layer.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteImage deletes an image, and with it those of its layers that nothing else needs:
// from the top down, until one belongs to another image or a container, or has another
// child. It returns these layers.
//
// An image that a container was made from is errdefs.ErrInUse, and so is one that takes a
// mounted layer with it, if opts don't force it.
func (s *Store) DeleteImage(ctx context.Context, ref string, opts DeleteOptions) (removed []string, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	err = r.UpdateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		image, err := i.Lookup(ref)
		if err != nil {
			return err
		}
		users, err := c.ByImage(image.ID)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return errdefs.InUse{Kind: errdefs.Image, ID: image.ID, By: errdefs.Container, ByID: users[len(users)-1].ID}
		}
		if removed, err = roots.UnneededLayers(image, l, i, c); err != nil {
			return err
		}
		if err := refuseMounted(ctx, l, opts, removed...); err != nil || opts.DryRun {
			return err
		}
		if err := roots.DeleteImage(ctx, image.ID, l, i); err != nil {
			return err
		}
		step.Reached(ctx, "image record removed")
		return l.Delete(ctx, removed...)
	})
	if err != nil {
		return nil, err
	}
	return removed, nil
}

// DeleteContainer deletes a container with its layer: errdefs.ErrInUse if that is mounted
// and opts don't force it. If it is interrupted between the two, the container is still
// there, without a layer, and can be deleted again.
func (s *Store) DeleteContainer(ctx context.Context, ref string, opts DeleteOptions) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	return r.UpdateLayersAndContainers(ctx, func(l *layers.WriteTx, c *containers.WriteTx) error {
		container, err := c.Lookup(ref)
		if err != nil {
			return err
		}
		return deleteContainer(ctx, container, opts, l, c)
	})
}

func deleteContainer(ctx context.Context, container containers.Container, opts DeleteOptions, l *layers.WriteTx,
	c *containers.WriteTx) error {
	err := refuseMounted(ctx, l, opts, container.LayerID)
	if inUse := (errdefs.InUse{}); errors.As(err, &inUse) {
		return errdefs.InUse{Kind: errdefs.Container, ID: container.ID, By: errdefs.Mount, ByID: container.ID}
	}
	if err != nil || opts.DryRun {
		return err
	}
	return roots.DeleteContainer(ctx, container, l, c)
}

// refuseMounted returns errdefs.ErrInUse if one of the layers is mounted, unless opts
// force their deletion.
func refuseMounted(ctx context.Context, l *layers.WriteTx, opts DeleteOptions, ids ...string) error {
	if opts.Force {
		return nil
	}
	mounted, err := l.MountedLayers(ctx)
	for _, m := range mounted {
		if m.Count > 0 && slices.Contains(ids, m.ID) {
			err = errors.Join(err, errdefs.InUse{Kind: errdefs.Layer, ID: m.ID, By: errdefs.Mount, ByID: m.ID})
		}
	}
	return err
}

// Delete deletes a container, an image or a layer, whichever ref means, looked for in
// this order. It asks nobody whether they need it: an image's layers stay, and a layer
// goes even if it has children. What is mounted is errdefs.ErrInUse, unless opts force
// it.
func (s *Store) Delete(ctx context.Context, ref string, opts DeleteOptions) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	return r.UpdateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		if container, err := c.Lookup(ref); !errors.Is(err, errdefs.ErrNotFound) {
			if err != nil {
				return err
			}
			return deleteContainer(ctx, container, opts, l, c)
		}
		if image, err := i.Lookup(ref); !errors.Is(err, errdefs.ErrNotFound) {
			if err != nil || opts.DryRun {
				return err
			}
			return roots.DeleteImage(ctx, image.ID, l, i)
		}
		layer, err := l.Lookup(ref)
		if errors.Is(err, errdefs.ErrNotFound) {
			return errdefs.Missing{Kind: errdefs.AnyObject, Ref: ref}
		}
		if err != nil {
			return err
		}
		if err := refuseMounted(ctx, l, opts, layer.ID); err != nil || opts.DryRun {
			return err
		}
		return l.Delete(ctx, layer.ID)
	})
}
