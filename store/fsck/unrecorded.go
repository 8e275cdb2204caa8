package fsck

import (
	"context"
	"errors"
	"slices"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/ident"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// DriverLayers returns the IDs of all layers that the driver has, recorded or not, in
// their order.
func DriverLayers(ctx context.Context, s *store.Store) ([]string, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := r.Driver.List(ctx)
	slices.Sort(ids)
	return ids, err
}

// CreateDriverLayer makes an empty layer that no record knows, for trying out what Check
// and GC make of it, and returns its ID. Of opts, ID, Parent (the whole ID of any layer
// that the driver has), Writable and IDMap count.
func CreateDriverLayer(ctx context.Context, s *store.Store, opts layers.CreateOptions) (id string, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return "", err
	}
	if id = opts.ID; id == "" {
		id = ident.New()
	}
	staged, err := r.Driver.Stage(ctx, opts.Parent, drivers.StageOptions{Writable: opts.Writable, IDMap: opts.IDMap})
	if err != nil {
		return "", err
	}
	err = r.Layers.Update(ctx, func(*layers.WriteTx) error { return staged.Commit(ctx, id) })
	return id, errors.Join(err, staged.Discard())
}
