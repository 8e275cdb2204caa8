package store

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

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
