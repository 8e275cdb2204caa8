package store

import (
	"context"
	"runtime/debug"

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
