package store

import (
	"context"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// viewAll is roots.Roots.ViewAll.
func (s *Store) viewAll(ctx context.Context, fn func(*layers.ReadTx, *images.ReadTx, *containers.ReadTx) error) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	return r.ViewAll(ctx, fn)
}

// updateAll is roots.Roots.UpdateAll.
func (s *Store) updateAll(ctx context.Context, fn func(*layers.WriteTx, *images.WriteTx,
	*containers.WriteTx) error) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	return r.UpdateAll(ctx, fn)
}
