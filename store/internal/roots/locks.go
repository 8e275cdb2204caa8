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

// two nests the second of two transactions in the first.
func two[A, B any](ctx context.Context, first func(context.Context, func(*A) error) error,
	second func(context.Context, func(*B) error) error, fn func(*A, *B) error) error {
	return first(ctx, func(a *A) error {
		return second(ctx, func(b *B) error { return fn(a, b) })
	})
}

// three nests three.
func three[A, B, C any](ctx context.Context, first func(context.Context, func(*A) error) error,
	second func(context.Context, func(*B) error) error, third func(context.Context, func(*C) error) error,
	fn func(*A, *B, *C) error) error {
	return first(ctx, func(a *A) error {
		return two(ctx, second, third, func(b *B, c *C) error { return fn(a, b, c) })
	})
}

// ViewAll calls fn with all records still.
func (r *Roots) ViewAll(ctx context.Context, fn func(*layers.ReadTx, *images.ReadTx, *containers.ReadTx) error) error {
	return three(ctx, r.Layers.View, r.Images.View, r.Containers.View, fn)
}

// InspectAll is ViewAll that leaves alone what dead processes have staged, for who wants
// to see it.
func (r *Roots) InspectAll(ctx context.Context, fn func(*layers.ReadTx, *images.ReadTx,
	*containers.ReadTx) error) error {
	return three(ctx, r.Layers.Inspect, r.Images.View, r.Containers.View, fn)
}

// UpdateAll calls fn with all records to itself.
func (r *Roots) UpdateAll(ctx context.Context, fn func(*layers.WriteTx, *images.WriteTx,
	*containers.WriteTx) error) error {
	return three(ctx, r.Layers.Update, r.Images.Update, r.Containers.Update, fn)
}

// ViewImages calls fn with the layers and images still.
func (r *Roots) ViewImages(ctx context.Context, fn func(*layers.ReadTx, *images.ReadTx) error) error {
	return two(ctx, r.Layers.View, r.Images.View, fn)
}

// UpdateImages calls fn with the images to itself and the layers still.
func (r *Roots) UpdateImages(ctx context.Context, fn func(*layers.ReadTx, *images.WriteTx) error) error {
	return two(ctx, r.Layers.View, r.Images.Update, fn)
}

// ViewLayers calls fn with the layers and containers still: a container's layer is no
// parent.
func (r *Roots) ViewLayers(ctx context.Context, fn func(*layers.ReadTx, *containers.ReadTx) error) error {
	return two(ctx, r.Layers.View, r.Containers.View, fn)
}

// UpdateLayers calls fn with the layers to itself and the containers still.
func (r *Roots) UpdateLayers(ctx context.Context, fn func(*layers.WriteTx, *containers.ReadTx) error) error {
	return two(ctx, r.Layers.Update, r.Containers.View, fn)
}

// UpdateLayersAndContainers calls fn with layers and containers to itself.
func (r *Roots) UpdateLayersAndContainers(ctx context.Context,
	fn func(*layers.WriteTx, *containers.WriteTx) error) error {
	return two(ctx, r.Layers.Update, r.Containers.Update, fn)
}

// UpdateContainers calls fn with layers and containers to itself and the images still.
func (r *Roots) UpdateContainers(ctx context.Context,
	fn func(*layers.WriteTx, *images.ReadTx, *containers.WriteTx) error) error {
	return three(ctx, r.Layers.Update, r.Images.View, r.Containers.Update, fn)
}
