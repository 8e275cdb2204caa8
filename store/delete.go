package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
)

// DeleteLayer deletes a layer that nothing needs: errdefs.ErrInUse if it has a child, or
// is an image's top layer or a container's. It is unmounted first. From the moment that
// DeleteLayer returns the layer stays gone, whatever happens. Its files are out of sight
// then, and removed meanwhile or later: see Wait.
func (s *Store) DeleteLayer(ctx context.Context, ref string) error {
	return s.updateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
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
				return fmt.Errorf("layer %s: %w by image %s", layer.ID, errdefs.ErrInUse, image.ID)
			}
		}
		owner, err := c.ByLayer(layer.ID)
		if err == nil {
			return fmt.Errorf("layer %s: %w by container %s", layer.ID, errdefs.ErrInUse, owner.ID)
		}
		if !errors.Is(err, errdefs.ErrNotFound) {
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
// child. It returns these layers. With commit false it only says which they would be.
//
// An image that a container was made from is errdefs.ErrInUse.
func (s *Store) DeleteImage(ctx context.Context, ref string, commit bool) (removed []string, err error) {
	err = s.updateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		image, err := i.Lookup(ref)
		if err != nil {
			return err
		}
		users, err := c.ByImage(image.ID)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return fmt.Errorf("image %s: %w by container %s", image.ID, errdefs.ErrInUse, users[len(users)-1].ID)
		}
		if removed, err = unneededLayers(image, l, i, c); err != nil || !commit {
			return err
		}
		if err := deleteImage(ctx, image.ID, l, i); err != nil {
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

// unneededLayers lists the layers that only this image needs: the translated copies of
// its top layer, then its chain from the top down.
func unneededLayers(image images.Image, l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) ([]string, error) {
	var unneeded []string
	for _, id := range image.MappedLayers {
		if copied, err := l.Get(id); err == nil && !copied.ReadOnly {
			unneeded = append(unneeded, id)
		}
	}
	chain, err := l.Chain(image.TopLayer)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return nil, err
	}
	for n, layer := range chain {
		if layer.ReadOnly {
			break
		}
		heirs := []string{layer.ID}
		if n == 0 {
			heirs = append(heirs, image.MappedLayers...)
		}
		needed, err := neededByOthers(image, heirs, unneeded, l, i, c)
		if err != nil {
			return nil, err
		}
		if needed {
			break
		}
		unneeded = append(unneeded, layer.ID)
	}
	return unneeded, nil
}

// neededByOthers reports whether one of the layers has a child that stays, and whether
// the first of them is a container's or another image's.
func neededByOthers(image images.Image, ids, going []string, l *layers.WriteTx, i *images.WriteTx,
	c *containers.WriteTx) (bool, error) {
	if _, err := c.ByLayer(ids[0]); !errors.Is(err, errdefs.ErrNotFound) {
		return true, err
	}
	others, err := i.ByTopLayer(ids[0])
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(others, func(other images.Image) bool { return other.ID != image.ID }) {
		return true, nil
	}
	for _, id := range ids {
		children, err := l.Children(id)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(children, func(child layers.Layer) bool { return !slices.Contains(going, child.ID) }) {
			return true, nil
		}
	}
	return false, nil
}

// DeleteContainer deletes a container with its layer, which is unmounted first. If it is
// interrupted between the two, the container is still there, without a layer, and can be
// deleted again.
func (s *Store) DeleteContainer(ctx context.Context, ref string) error {
	return s.updateLayersAndContainers(ctx, func(l *layers.WriteTx, c *containers.WriteTx) error {
		container, err := c.Lookup(ref)
		if err != nil {
			return err
		}
		return deleteContainer(ctx, container, l, c)
	})
}

// Delete deletes a container, an image or a layer, whichever ref means, looked for in
// this order. It asks nobody whether they need it: an image's layers stay, and a layer
// goes even if it has children.
func (s *Store) Delete(ctx context.Context, ref string) error {
	return s.updateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		if container, err := c.Lookup(ref); !errors.Is(err, errdefs.ErrNotFound) {
			if err != nil {
				return err
			}
			return deleteContainer(ctx, container, l, c)
		}
		if image, err := i.Lookup(ref); !errors.Is(err, errdefs.ErrNotFound) {
			if err != nil {
				return err
			}
			return deleteImage(ctx, image.ID, l, i)
		}
		layer, err := l.Lookup(ref)
		if errors.Is(err, errdefs.ErrNotFound) {
			return fmt.Errorf("layer, image or container %q: %w", ref, errdefs.ErrNotFound)
		}
		if err != nil {
			return err
		}
		return l.Delete(ctx, layer.ID)
	})
}

// deleteContainer saves the layers first: a container without a layer can be deleted
// again, a layer without its container would stay for good.
func deleteContainer(ctx context.Context, container containers.Container, l *layers.WriteTx,
	c *containers.WriteTx) error {
	var layer []string
	if _, err := l.Get(container.LayerID); err == nil {
		layer = []string{container.LayerID}
	} else if !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	if err := l.Remove(ctx, layer...); err != nil {
		return err
	}
	dirs, err := c.Remove(container.ID)
	if err != nil {
		return err
	}
	if err := catalog.SaveTogether(l.Records(), c.Records()); err != nil {
		return err
	}
	step.Reached(ctx, "container and layer records removed")
	return errors.Join(l.DiscardRemoved(ctx, layer...), discard(ctx, dirs, l))
}

func deleteImage(ctx context.Context, id string, l *layers.WriteTx, i *images.WriteTx) error {
	dirs, err := i.Delete(id)
	if err != nil {
		return err
	}
	return discard(ctx, dirs, l)
}

// discard removes directories of an image or container that is gone: the first, in the
// graph root, is moved out of sight; the second, in the run root, is on another file
// system as a rule, and small.
func discard(ctx context.Context, dirs []string, l *layers.WriteTx) error {
	ctx, cancel := undoContext(ctx)
	defer cancel()
	return errors.Join(l.DiscardIfThere(dirs[0]), fsat.RemoveAll(ctx, dirs[1]))
}

// undoContext is for what must be done although ctx has ended.
func undoContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
}
