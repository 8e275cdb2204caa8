package roots

import (
	"context"
	"errors"
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

// UnneededLayers lists the layers that only this image needs: the translated copies of
// its top layer, then its chain from the top down.
func UnneededLayers(image images.Image, l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) ([]string, error) {
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

// DeleteContainer saves the layers first: a container without a layer can be deleted
// again, a layer without its container would stay for good.
func DeleteContainer(ctx context.Context, container containers.Container, l *layers.WriteTx,
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
	return errors.Join(l.DiscardRemoved(ctx, layer...), Discard(ctx, dirs, l))
}

// DeleteImage deletes an image and its layers, as far as no other needs them.
func DeleteImage(ctx context.Context, id string, l *layers.WriteTx, i *images.WriteTx) error {
	dirs, err := i.Delete(id)
	if err != nil {
		return err
	}
	return Discard(ctx, dirs, l)
}

// Discard removes directories of an image or container that is gone: the first, in the
// graph root, is moved out of sight; the second, in the run root, is on another file
// system as a rule, and small.
func Discard(ctx context.Context, dirs []string, l *layers.WriteTx) error {
	ctx, cancel := UndoContext(ctx)
	defer cancel()
	return errors.Join(l.DiscardIfThere(dirs[0]), fsat.RemoveAll(ctx, dirs[1]))
}

// UndoContext is for what must be done although ctx has ended.
func UndoContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
}
