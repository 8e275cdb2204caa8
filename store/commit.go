package store

import (
	"context"
	"fmt"
	"io"

	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/layers"
)

// Commit makes a layer of what a container has changed, on the layer that the container
// lies on. The container stays as it is; what is written to it meanwhile may be in the
// layer or not. Of opts, Parent isn't read.
//
// Errors are those of Diff and ImportLayer.
func (s *Store) Commit(ctx context.Context, container string, opts layers.CreateOptions) (layers.Layer, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return layers.Layer{}, err
	}
	var layer layers.Layer
	err = r.ViewLayers(ctx, func(l *layers.ReadTx, c *containers.ReadTx) error {
		found, err := c.Lookup(container)
		if err != nil {
			return err
		}
		layer, err = l.Get(found.LayerID)
		return err
	})
	if err != nil {
		return layers.Layer{}, err
	}
	opts.Parent = layer.Parent
	tar, packed := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		plain := compress.None
		packed.CloseWithError(r.Layers.Diff(ctx, packed, layer.ID, "", DiffOptions{Compression: &plain}))
	}()
	made, err := s.ImportLayer(ctx, opts, tar, nil)
	tar.CloseWithError(fmt.Errorf("commit: %w", io.ErrClosedPipe)) // the diff ends, should it still be written
	<-done
	return made, err
}
