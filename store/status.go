package store

import (
	"context"
	"runtime/debug"

	"github.com/shalestore/shale/drivers"
)

// Status returns facts about the driver for people, in a fixed order.
func (s *Store) Status(ctx context.Context) ([]drivers.Property, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	return r.Driver.Status(ctx), nil
}

// Version returns what is known about this build: the version of the module, "(devel)"
// for a working copy, and the compiler's.
func Version() []drivers.Property {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	version := info.Main.Version
	for _, module := range info.Deps {
		if module.Path == "github.com/shalestore/shale" {
			version = module.Version
		}
	}
	return []drivers.Property{{Name: "Version", Value: version}, {Name: "Go", Value: info.GoVersion}}
}
