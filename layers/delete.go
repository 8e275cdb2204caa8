package layers

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/atomicfile"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/ident"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
)

// Delete deletes the layers with these IDs: unmounts them, takes their records out in one
// durable save and moves their files out of sight. The files go when the lock is
// released. Layers that don't exist are errdefs.ErrNotFound, before anything is done.
//
// It doesn't ask who else needs them; that is for the caller, who sees images and
// containers too.
func (tx *WriteTx) Delete(ctx context.Context, ids ...string) error {
	if err := tx.Remove(ctx, ids...); err != nil || len(ids) == 0 {
		return err
	}
	if err := tx.records.Save(); err != nil {
		return err
	}
	step.Reached(ctx, "layer record removed")
	return tx.DiscardRemoved(ctx, ids...)
}

// Remove is the part of Delete that comes before the save, for a caller who has other
// records to save as well and calls DiscardRemoved then: it unmounts the layers and takes
// their records out.
func (tx *WriteTx) Remove(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		if layer, err := tx.Get(id); err != nil {
			return err
		} else if layer.ReadOnly {
			return layer.refuse()
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if err := tx.UnmountAll(ctx, ids...); err != nil {
		return err
	}
	step.Reached(ctx, "layer unmounted for deletion")
	for _, id := range ids {
		if err := tx.records.Remove(id); err != nil {
			return err
		}
	}
	return nil
}

// DiscardRemoved moves the files of layers out of sight whose records are gone for good.
// What can't be moved away now is garbage for the next collection.
func (tx *WriteTx) DiscardRemoved(ctx context.Context, ids ...string) error {
	ctx, cancel := undoContext(ctx)
	defer cancel()
	var errs []error
	for _, id := range ids {
		if err := tx.DiscardFiles(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("layer %s: deleted, but some of its files are left: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// DiscardFiles moves everything that belongs to a layer out of sight.
func (tx *WriteTx) DiscardFiles(ctx context.Context, id string) error {
	if err := ident.Validate(id); err != nil { // of a record that somebody has tampered with
		return err
	}
	trash, err := tx.store.driver.Delete(ctx, id)
	if trash != nil {
		tx.trash = append(tx.trash, trash)
	}
	step.Reached(ctx, "layer directory renamed away")
	return errors.Join(err,
		tx.DiscardIfThere(tx.store.TarSplit(Layer{ID: id})),
		tx.DiscardIfThere(tx.store.dataDir(id)))
}

// DiscardIfThere is Discard for what may not exist.
func (tx *WriteTx) DiscardIfThere(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return tx.Discard(path)
}

// Discard moves a file or directory of the graph root's file system out of sight, to be
// removed when the lock is released. It also serves what belongs to images and
// containers, which have no place of their own for such things.
func (tx *WriteTx) Discard(path string) error {
	if tx.bin == nil {
		bin, err := tempdir.New(tx.store.tmp())
		if atomicfile.IsFull(err) { // then it goes from where it is
			return fsat.RemoveAll(context.Background(), path)
		}
		if err != nil {
			return err
		}
		tx.bin = bin
		tx.trash = append(tx.trash, drivers.TrashIn(bin))
	}
	return tx.bin.Take(path)
}

// CheckChildless returns errdefs.ErrInUse if another layer is on top of the layer with
// this ID.
func (tx *ReadTx) CheckChildless(id string) error {
	children, err := tx.Children(id)
	if err != nil {
		return err
	}
	if len(children) > 0 {
		return errdefs.InUse{Kind: errdefs.Layer, ID: id, By: errdefs.Layer, ByID: children[0].ID}
	}
	return nil
}
