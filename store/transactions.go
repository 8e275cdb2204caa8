package store

import (
	"context"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// The order of locks is storage.lock, userns.lock, layers.lock, images.lock,
// containers.lock. The functions in this file are the only ones that take more than one
// of the last three, and each takes them in this order, by nesting. What needs the locks
// gets the transactions that prove them; nothing here may be called while one is at hand.

// viewAll calls fn with all records still.
func (s *Store) viewAll(ctx context.Context, fn func(*layers.ReadTx, *images.ReadTx, *containers.ReadTx) error) error {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	return r.layers.View(ctx, func(l *layers.ReadTx) error {
		return r.images.View(ctx, func(i *images.ReadTx) error {
			return r.containers.View(ctx, func(c *containers.ReadTx) error { return fn(l, i, c) })
		})
	})
}

// viewImages calls fn with the layers and images still.
func (s *Store) viewImages(ctx context.Context, fn func(*layers.ReadTx, *images.ReadTx) error) error {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	return r.layers.View(ctx, func(l *layers.ReadTx) error {
		return r.images.View(ctx, func(i *images.ReadTx) error { return fn(l, i) })
	})
}

// inspectAll is viewAll that leaves alone what dead processes have staged, for who wants
// to see it.
func (s *Store) inspectAll(ctx context.Context, fn func(*layers.ReadTx, *images.ReadTx,
	*containers.ReadTx) error) error {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	return r.layers.Inspect(ctx, func(l *layers.ReadTx) error {
		return r.images.View(ctx, func(i *images.ReadTx) error {
			return r.containers.View(ctx, func(c *containers.ReadTx) error { return fn(l, i, c) })
		})
	})
}

// updateAll calls fn with all records to itself.
func (s *Store) updateAll(ctx context.Context, fn func(*layers.WriteTx, *images.WriteTx,
	*containers.WriteTx) error) error {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	return r.layers.Update(ctx, func(l *layers.WriteTx) error {
		return r.images.Update(ctx, func(i *images.WriteTx) error {
			return r.containers.Update(ctx, func(c *containers.WriteTx) error { return fn(l, i, c) })
		})
	})
}

// viewLayers calls fn with the layers and containers still: a container's layer is no
// parent.
func (s *Store) viewLayers(ctx context.Context, fn func(*layers.ReadTx, *containers.ReadTx) error) error {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	return r.layers.View(ctx, func(l *layers.ReadTx) error {
		return r.containers.View(ctx, func(c *containers.ReadTx) error { return fn(l, c) })
	})
}

// updateLayers calls fn with the layers to itself and the containers still.
func (s *Store) updateLayers(ctx context.Context, fn func(*layers.WriteTx, *containers.ReadTx) error) error {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	return r.layers.Update(ctx, func(l *layers.WriteTx) error {
		return r.containers.View(ctx, func(c *containers.ReadTx) error { return fn(l, c) })
	})
}

// updateContainers calls fn with layers and containers to itself and the images still.
func (s *Store) updateContainers(ctx context.Context,
	fn func(*layers.WriteTx, *images.ReadTx, *containers.WriteTx) error) error {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	return r.layers.Update(ctx, func(l *layers.WriteTx) error {
		return r.images.View(ctx, func(i *images.ReadTx) error {
			return r.containers.Update(ctx, func(c *containers.WriteTx) error { return fn(l, i, c) })
		})
	})
}

// updateLayersAndContainers calls fn with layers and containers to itself.
func (s *Store) updateLayersAndContainers(ctx context.Context,
	fn func(*layers.WriteTx, *containers.WriteTx) error) error {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	return r.layers.Update(ctx, func(l *layers.WriteTx) error {
		return r.containers.Update(ctx, func(c *containers.WriteTx) error { return fn(l, c) })
	})
}

// updateImages calls fn with the images to itself and the layers still.
func (s *Store) updateImages(ctx context.Context, fn func(*layers.ReadTx, *images.WriteTx) error) error {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	return r.layers.View(ctx, func(l *layers.ReadTx) error {
		return r.images.Update(ctx, func(i *images.WriteTx) error { return fn(l, i) })
	})
}
