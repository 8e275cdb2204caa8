package layers

import (
	"context"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
)

// Limitable returns nil where writable layers can have limits, and otherwise
// errdefs.ErrUnsupported with what to change about the driver or the file system.
func (s *Store) Limitable(ctx context.Context) error {
	limiter, ok := s.driver.(drivers.Limiter)
	if !ok {
		return errdefs.Unsupported{What: "limits", By: "by the " + s.driver.Name() + " driver"}
	}
	return limiter.Limitable(ctx)
}
