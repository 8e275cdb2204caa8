package layers

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
)

// Limitable returns nil where writable layers can have limits, and otherwise
// errdefs.ErrUnsupported with what to change about the driver or the file system.
func (s *Store) Limitable(ctx context.Context) error {
	limiter, ok := s.driver.(drivers.Limiter)
	if !ok {
		return fmt.Errorf("limits: %w by the %s driver", errdefs.ErrUnsupported, s.driver.Name())
	}
	return limiter.Limitable(ctx)
}
