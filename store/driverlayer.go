package store

import (
	"context"
	"slices"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/layers"
)

// DriverLayers returns the IDs of all layers that the driver has, recorded or not, in
// their order.
func (s *Store) DriverLayers(ctx context.Context) ([]string, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := r.Layers.DriverLayers(ctx)
	slices.Sort(ids)
	return ids, err
}

// CreateDriverLayer makes an empty layer that no record knows, for trying out what Check
// and GC make of it. Of opts, ID, Parent (a whole ID), Writable and IDMap count.
func (s *Store) CreateDriverLayer(ctx context.Context, opts layers.CreateOptions) (id string, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return "", err
	}
	return r.Layers.CreateUnrecorded(ctx, opts.ID, opts.Parent, drivers.StageOptions{Writable: opts.Writable,
		IDMap: opts.IDMap})
}
