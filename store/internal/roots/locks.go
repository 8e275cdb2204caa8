package roots

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

// ViewAll calls fn with all records still.
func (r *Roots) ViewAll(ctx context.Context, fn func(*layers.ReadTx, *images.ReadTx, *containers.ReadTx) error) error {
	return r.Layers.View(ctx, func(l *layers.ReadTx) error {
		return r.Images.View(ctx, func(i *images.ReadTx) error {
			return r.Containers.View(ctx, func(c *containers.ReadTx) error { return fn(l, i, c) })
		})
	})
}

// ViewImages calls fn with the layers and images still.
func (r *Roots) ViewImages(ctx context.Context, fn func(*layers.ReadTx, *images.ReadTx) error) error {
	return r.Layers.View(ctx, func(l *layers.ReadTx) error {
		return r.Images.View(ctx, func(i *images.ReadTx) error { return fn(l, i) })
	})
}

// InspectAll is ViewAll that leaves alone what dead processes have staged, for who wants
// to see it.
func (r *Roots) InspectAll(ctx context.Context, fn func(*layers.ReadTx, *images.ReadTx,
	*containers.ReadTx) error) error {
	return r.Layers.Inspect(ctx, func(l *layers.ReadTx) error {
		return r.Images.View(ctx, func(i *images.ReadTx) error {
			return r.Containers.View(ctx, func(c *containers.ReadTx) error { return fn(l, i, c) })
		})
	})
}

// UpdateAll calls fn with all records to itself.
func (r *Roots) UpdateAll(ctx context.Context, fn func(*layers.WriteTx, *images.WriteTx,
	*containers.WriteTx) error) error {
	return r.Layers.Update(ctx, func(l *layers.WriteTx) error {
		return r.Images.Update(ctx, func(i *images.WriteTx) error {
			return r.Containers.Update(ctx, func(c *containers.WriteTx) error { return fn(l, i, c) })
		})
	})
}

// ViewLayers calls fn with the layers and containers still: a container's layer is no
// parent.
func (r *Roots) ViewLayers(ctx context.Context, fn func(*layers.ReadTx, *containers.ReadTx) error) error {
	return r.Layers.View(ctx, func(l *layers.ReadTx) error {
		return r.Containers.View(ctx, func(c *containers.ReadTx) error { return fn(l, c) })
	})
}

// UpdateLayers calls fn with the layers to itself and the containers still.
func (r *Roots) UpdateLayers(ctx context.Context, fn func(*layers.WriteTx, *containers.ReadTx) error) error {
	return r.Layers.Update(ctx, func(l *layers.WriteTx) error {
		return r.Containers.View(ctx, func(c *containers.ReadTx) error { return fn(l, c) })
	})
}

// UpdateContainers calls fn with layers and containers to itself and the images still.
func (r *Roots) UpdateContainers(ctx context.Context,
	fn func(*layers.WriteTx, *images.ReadTx, *containers.WriteTx) error) error {
	return r.Layers.Update(ctx, func(l *layers.WriteTx) error {
		return r.Images.View(ctx, func(i *images.ReadTx) error {
			return r.Containers.Update(ctx, func(c *containers.WriteTx) error { return fn(l, i, c) })
		})
	})
}

// UpdateLayersAndContainers calls fn with layers and containers to itself.
func (r *Roots) UpdateLayersAndContainers(ctx context.Context,
	fn func(*layers.WriteTx, *containers.WriteTx) error) error {
	return r.Layers.Update(ctx, func(l *layers.WriteTx) error {
		return r.Containers.Update(ctx, func(c *containers.WriteTx) error { return fn(l, c) })
	})
}

// UpdateImages calls fn with the images to itself and the layers still.
func (r *Roots) UpdateImages(ctx context.Context, fn func(*layers.ReadTx, *images.WriteTx) error) error {
	return r.Layers.View(ctx, func(l *layers.ReadTx) error {
		return r.Images.Update(ctx, func(i *images.WriteTx) error { return fn(l, i) })
	})
}
