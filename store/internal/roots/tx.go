package roots

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// Tx is a transaction over all three kinds of record. It locks a kind when that is first
// asked for, and gives all locks back in the end: who looks at images alone waits for
// nobody who is at work on layers, and has only images read. It is for one goroutine.
//
// The locks are taken in their order. Who asks for a kind after a later one has that
// given back, and taken again when it is next asked for: what was read of it before may
// be out of date then. Where the later one was changed already it is errdefs.ErrInvalid.
type Tx struct {
	ctx   context.Context
	roots *Roots
	write bool

	layers     kind[layers.ReadTx, layers.WriteTx]
	images     kind[images.ReadTx, images.WriteTx]
	containers kind[containers.ReadTx, containers.WriteTx]
}

// View calls fn with a transaction that reads.
func (r *Roots) View(ctx context.Context, fn func(*Tx) error) error {
	return (&Tx{ctx: ctx, roots: r}).run(fn)
}

// Update calls fn with a transaction that may change. What it has changed is saved when
// it returns nil, each kind by itself; after an error nothing more is.
func (r *Roots) Update(ctx context.Context, fn func(*Tx) error) error {
	return (&Tx{ctx: ctx, roots: r, write: true}).run(fn)
}

var errPanic = errors.New("the transaction's function didn't return")

func (tx *Tx) run(fn func(*Tx) error) (err error) {
	err = errPanic
	defer func() { err = tx.layers.end(tx.images.end(tx.containers.end(err))) }()
	return fn(tx)
}

// Layers locks the layers, if they aren't, and returns what reads them.
func (tx *Tx) Layers() (*layers.ReadTx, error) {
	if tx.layers.held() {
		return tx.layers.read, nil
	}
	if tx.images.changed || tx.containers.changed {
		return nil, outOfOrder("layers")
	}
	if err := tx.images.end(tx.containers.end(nil)); err != nil {
		return nil, err
	}
	err := begin(tx, &tx.layers, tx.roots.Layers, func(w *layers.WriteTx) *layers.ReadTx { return &w.ReadTx })
	return tx.layers.read, err
}

// Images is Layers for images.
func (tx *Tx) Images() (*images.ReadTx, error) {
	if tx.images.held() {
		return tx.images.read, nil
	}
	if tx.containers.changed {
		return nil, outOfOrder("images")
	}
	if err := tx.containers.end(nil); err != nil {
		return nil, err
	}
	err := begin(tx, &tx.images, tx.roots.Images, func(w *images.WriteTx) *images.ReadTx { return &w.ReadTx })
	return tx.images.read, err
}

// Containers is Layers for containers.
func (tx *Tx) Containers() (*containers.ReadTx, error) {
	if tx.containers.held() {
		return tx.containers.read, nil
	}
	err := begin(tx, &tx.containers, tx.roots.Containers,
		func(w *containers.WriteTx) *containers.ReadTx { return &w.ReadTx })
	return tx.containers.read, err
}

// ChangeLayers is Layers for a change. It is for transactions of Update.
func (tx *Tx) ChangeLayers() (*layers.WriteTx, error) {
	_, err := tx.Layers()
	tx.layers.changed = err == nil
	return tx.layers.write, err
}

// ChangeImages is ChangeLayers for images.
func (tx *Tx) ChangeImages() (*images.WriteTx, error) {
	_, err := tx.Images()
	tx.images.changed = err == nil
	return tx.images.write, err
}

// ChangeContainers is ChangeLayers for containers.
func (tx *Tx) ChangeContainers() (*containers.WriteTx, error) {
	_, err := tx.Containers()
	tx.containers.changed = err == nil
	return tx.containers.write, err
}

func outOfOrder(kind string) error {
	return fmt.Errorf("%s: %w: look at them before those of a later kind are changed (layers, images, containers)",
		kind, errdefs.ErrInvalid)
}

// kind is one kind of record in a Tx. While it isn't locked it is empty.
type kind[R, W any] struct {
	read    *R
	write   *W // nil in a View
	finish  func(error) error
	changed bool
}

func (k *kind[R, W]) held() bool { return k.finish != nil }

// end gives the lock back, having saved what was changed if err is nil. It returns err,
// or what went wrong.
func (k *kind[R, W]) end(err error) error {
	if finish := k.finish; finish != nil {
		*k = kind[R, W]{}
		return finish(err)
	}
	return err
}

// begin locks a kind.
func begin[R, W any](tx *Tx, k *kind[R, W], records interface {
	View(context.Context, func(*R) error) error
	Update(context.Context, func(*W) error) error
}, reader func(*W) *R) (err error) {
	if tx.write {
		if k.write, k.finish, err = hold(tx.ctx, records.Update); err == nil {
			k.read = reader(k.write)
		}
		return err
	}
	k.read, k.finish, err = hold(tx.ctx, records.View)
	return err
}

// hold calls run and has it wait in the middle, where its function has the transaction T,
// until finish is called: with the error that this function shall return. It makes an
// open and a close of the closures by which locks are held elsewhere.
func hold[T any](ctx context.Context, run func(context.Context, func(*T) error) error) (held *T,
	finish func(error) error, err error) {
	var outcome, result error
	next, stop := iter.Pull(func(yield func(*T) bool) {
		result = run(ctx, func(tx *T) error {
			yield(tx)
			return outcome
		})
	})
	held, ok := next()
	if !ok {
		return nil, nil, result
	}
	return held, func(err error) error {
		outcome = err
		stop()
		return result
	}, nil
}
