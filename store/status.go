package store

import (
	"context"

	"github.com/shalestore/shale/drivers"
)

// Status returns the name of the store's driver, "overlay" or "vfs", and facts about it
// for people, in a fixed order. Choosing a driver may mean to try out what the kernel can
// do. Errors are those of opening the store.
func (s *Store) Status(ctx context.Context) (driver string, facts []drivers.Property, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return "", nil, err
	}
	return r.Driver.Name(), r.Driver.Status(ctx), nil
}
