package layers

import (
	"context"
	"errors"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/ident"
)

// CreateUnrecorded makes the files of an empty layer without a record of it, which is
// what Orphans then finds, and returns its ID. It serves to try out drivers, and checks.
// The parent is any layer that the driver has.
func (s *Store) CreateUnrecorded(ctx context.Context, id, parent string, opts drivers.StageOptions) (string, error) {
	if id == "" {
		id = ident.New()
	}
	staged, err := s.driver.Stage(ctx, parent, opts)
	if err != nil {
		return "", err
	}
	err = s.Update(ctx, func(*WriteTx) error { return staged.Commit(ctx, id) })
	return id, errors.Join(err, staged.Discard())
}

// DriverLayers lists all layers that the driver has, recorded or not.
func (s *Store) DriverLayers(ctx context.Context) ([]string, error) { return s.driver.List(ctx) }
