package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/internal/roots"
)

// CreateLayer makes an empty layer. It survives a power cut from the moment that
// CreateLayer returns, unless it is volatile.
//
// When the ID is taken, the error is errdefs.ErrDuplicateID, and errdefs.ErrDuplicateName
// when a name is: the layer that has it is returned too. A parent that doesn't exist is
// errdefs.ErrNotFound, one that is a container's layer errdefs.ErrInvalid.
//
// With an ID mapping that differs from the parent's, and a driver that can't translate
// owners while mounting, all that is beneath the layer is copied into it with translated
// owners.
func (s *Store) CreateLayer(ctx context.Context, opts layers.CreateOptions) (layers.Layer, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return layers.Layer{}, err
	}
	parent, existing, err := planLayer(ctx, r, opts)
	if err != nil {
		return existing, err
	}
	d, err := r.Layers.Prepare(ctx, parent, opts)
	if err != nil {
		return layers.Layer{}, describeLayer(opts.ID, err)
	}
	defer d.Close() // what can't be removed is stale, and goes with the next writer
	return recordLayer(ctx, r, opts.ID, parent, d)
}

// ImportLayer makes a layer from a tar, which may be compressed. It unpacks without a
// lock, then makes the layer appear; when it returns nil the layer survives a power cut.
// When it fails, for whatever reason, or ctx ends, nothing of the layer is left.
// progress, when not nil, is called now and then with the bytes of tar read so far.
//
// Errors are those of CreateLayer; input that is no tar, or breaks a limit, is
// errdefs.ErrInvalid. A duplicate ID or name is found before tar is read.
//
// Of several that import a layer with the same ID at the same time, here or in other
// processes, one does the work: the others wait for it and then find the ID taken, or, if
// it failed, the next one begins.
func (s *Store) ImportLayer(ctx context.Context, opts layers.CreateOptions, tar io.Reader,
	progress func(read int64)) (layers.Layer, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return layers.Layer{}, err
	}
	if opts.ID != "" {
		release, err := r.Layers.Claim(ctx, opts.ID)
		if err != nil {
			return layers.Layer{}, describeLayer(opts.ID, err)
		}
		defer func() { _ = release() }() // closing a file of no content
	}
	parent, existing, err := planLayer(ctx, r, opts)
	if err != nil {
		return existing, err
	}
	d, err := r.Layers.Prepare(ctx, parent, opts)
	if err != nil {
		return layers.Layer{}, describeLayer(opts.ID, err)
	}
	defer d.Close() // as above
	if err := d.Fill(ctx, tar, progress); err != nil {
		return layers.Layer{}, describeLayer(opts.ID, err)
	}
	return recordLayer(ctx, r, opts.ID, parent, d)
}

// planLayer looks up the parent of a new layer, nil for none, and finds out whether its
// ID and names are free: else it returns the layer that has them.
func planLayer(ctx context.Context, r *roots.Roots, opts layers.CreateOptions) (parent *layers.Layer,
	existing layers.Layer, err error) {
	err = r.ViewLayers(ctx, func(l *layers.ReadTx, c *containers.ReadTx) error {
		if existing, err = l.CheckFree(opts.ID, opts.Names); err != nil {
			return err
		}
		parent, err = findParent(l, c, opts.Parent)
		return err
	})
	if err != nil {
		return nil, existing, err
	}
	if err := r.PrepareHome(ctx); err != nil {
		return nil, layers.Layer{}, describeLayer(opts.ID, err)
	}
	return parent, layers.Layer{}, nil
}

// recordLayer makes a layer of what is staged.
func recordLayer(ctx context.Context, r *roots.Roots, id string, parent *layers.Layer,
	d *layers.Draft) (created layers.Layer, err error) {
	if err := d.SyncOrPostpone(ctx); err != nil {
		return layers.Layer{}, describeLayer(id, err)
	}
	err = r.UpdateLayers(ctx, func(l *layers.WriteTx, c *containers.ReadTx) error {
		if err := checkParent(parent, c); err != nil {
			return err
		}
		created, err = l.Commit(ctx, d)
		return err
	})
	return created, err
}

// findParent finds the layer that a new one is to lie on; nil for none.
func findParent(l *layers.ReadTx, c *containers.ReadTx, ref string) (*layers.Layer, error) {
	if ref == "" {
		return nil, nil
	}
	parent, err := l.Lookup(ref)
	if err != nil {
		return nil, fmt.Errorf("parent: %w", err)
	}
	return &parent, checkParent(&parent, c)
}

// checkParent refuses a container's layer as a parent: it is written to.
func checkParent(parent *layers.Layer, c *containers.ReadTx) error {
	if parent == nil {
		return nil
	}
	owner, err := c.ByLayer(parent.ID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("parent %s: %w: it is the layer of container %s", parent.ID, errdefs.ErrInvalid, owner.ID)
}

// describeLayer says which layer an error is about, if that has an ID yet.
func describeLayer(id string, err error) error {
	if id == "" {
		return fmt.Errorf("new layer: %w", err)
	}
	return fmt.Errorf("layer %s: %w", id, err)
}

// ApplyDiff unpacks a tar, which may be compressed, onto the content of a layer that
// exists, and returns the bytes of the files written. The layer is as it was or as it was
// to be, whatever happens on the way, and after nil it survives a power cut. progress is
// that of ImportLayer.
//
// A layer that is mounted gets the files through its mount, one by one, where its users
// see each as it comes and an error leaves some. It is errdefs.ErrInUse if a layer above
// is mounted, errdefs.ErrBusy if the layer was changed meanwhile, and errdefs.ErrInvalid
// for input that is no tar.
func (s *Store) ApplyDiff(ctx context.Context, ref string, tar io.Reader,
	progress func(read int64)) (size int64, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	return r.Layers.Apply(ctx, ref, tar, progress)
}

// SetLayerBigData stores a data item with a layer, in place of one that has the same key.
// No lock is held while data is read.
func (s *Store) SetLayerBigData(ctx context.Context, ref, key string, data io.Reader) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	var layer layers.Layer
	err = r.Layers.View(ctx, func(tx *layers.ReadTx) error {
		layer, err = tx.Lookup(ref)
		return err
	})
	if err != nil {
		return err
	}
	item, err := r.Layers.StageItem(key, data)
	if err != nil {
		return err
	}
	defer item.Close()
	return r.Layers.Update(ctx, func(tx *layers.WriteTx) error { return tx.SetBigData(layer.ID, item) })
}
