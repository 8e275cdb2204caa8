package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/internal/roots"
)

// topLayer returns the top layer of an image, or the copy of it that has the mapping m;
// or the top layer as it is, when there is no such copy.
func topLayer(l *layers.ReadTx, image images.Image, m idtools.Mapping) (layers.Layer, error) {
	top, err := l.Get(image.TopLayer)
	if err != nil {
		return layers.Layer{}, fmt.Errorf("image %s: top layer: %w", image.ID, err)
	}
	if top.Mapping().Equal(m) {
		return top, nil
	}
	for _, id := range image.MappedLayers {
		mapped, err := l.Get(id)
		if errors.Is(err, errdefs.ErrNotFound) {
			continue
		}
		if err != nil {
			return layers.Layer{}, err
		}
		if mapped.Mapping().Equal(m) {
			return mapped, nil
		}
	}
	return top, nil
}

// mapTopLayer makes a copy of an image's top layer whose owners are those of the mapping
// m, and adds it to the image. The copying is done without a lock; when someone else had
// the same idea and was faster, theirs is returned.
//
// A crash leaves nothing, or the layer without the image's knowing of it, which the next
// layer deletion or garbage collection finds; or all.
func mapTopLayer(ctx context.Context, r *roots.Roots, image images.Image, top layers.Layer,
	m idtools.Mapping) (*layers.Layer, error) {
	draft, err := r.Layers.PrepareCopy(ctx, top, m)
	if err != nil {
		return nil, err
	}
	defer draft.Close()
	if err := draft.Sync(ctx); err != nil {
		return nil, err
	}
	var mapped layers.Layer
	err = r.UpdateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, _ *containers.WriteTx) error {
		now, err := i.Get(image.ID)
		if err != nil {
			return err
		}
		if now.TopLayer != image.TopLayer {
			return fmt.Errorf("image %s: changed while its layer was copied: %w", image.ID, errdefs.ErrBusy)
		}
		if mapped, err = topLayer(&l.ReadTx, now, m); err != nil || mapped.Mapping().Equal(m) {
			return err
		}
		if mapped, err = l.Commit(ctx, draft); err != nil {
			return err
		}
		step.Reached(ctx, "mapped layer made")
		if err := i.AddMappedLayer(image.ID, mapped.ID); err != nil {
			undo, cancel := roots.UndoContext(ctx)
			defer cancel()
			return errors.Join(err, l.Delete(undo, mapped.ID))
		}
		return nil
	})
	return &mapped, err
}
