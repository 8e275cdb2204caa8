package layers

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
)

// translate makes of the mapping that a mount is wanted with the one that the mount has
// to have.
func (tx *ReadTx) translate(ctx context.Context, layer Layer, opts *drivers.MountOptions) (err error) {
	if opts.IDMap.IsIdentity() {
		return nil
	}
	if opts.MapOwn {
		return tx.canMapAll(ctx, layer)
	}
	info, err := tx.store.driver.Stat(ctx, layer.ID)
	if err == nil {
		opts.IDMap, err = tx.shift(layer, info, opts.IDMap)
	}
	return err
}

// canMapAll refuses layers of which not everything has the container's own IDs on disk,
// or that can't be mounted with others.
func (tx *ReadTx) canMapAll(ctx context.Context, layer Layer) error {
	chain, err := tx.Chain(layer.ID)
	if err != nil {
		return err
	}
	for _, l := range chain {
		if !l.Mapping().IsIdentity() {
			return fmt.Errorf("with an ID map: %w: layer %s has one on disk", errdefs.ErrUnsupported, l.ID)
		}
	}
	shifter, ok := tx.store.driver.(drivers.Shifter)
	if !ok {
		return nil // the driver will say so
	}
	shifts, err := shifter.ShiftsLayer(ctx, layer.ID)
	if err == nil && !shifts {
		err = fmt.Errorf("with an ID map: %w: it comes from an additional layer store", errdefs.ErrUnsupported)
	}
	return err
}

// shift decides what a mount for a container with the mapping wanted has to translate:
// nothing, when the owners on disk are right already; or wanted, when the layer alone was
// written by the container and what is beneath it has the container's own IDs.
//
// The record tells the mapping of the layer's own files, the parent's record that of what
// is beneath, unless the layer holds a copy of that. containers/storage then has made the
// copy either to have the mapping on disk, or, from a parent that had it, to be rid of
// it.
func (tx *ReadTx) shift(layer Layer, info drivers.Info, wanted idtools.Mapping) (idtools.Mapping, error) {
	if wanted.IsIdentity() {
		return wanted, nil
	}
	own := layer.Mapping()
	if layer.Parent == "" && wanted.Equal(own) {
		return idtools.Mapping{}, nil
	}
	var under idtools.Mapping
	if layer.Parent != "" {
		parent, err := tx.Get(layer.Parent)
		if err != nil {
			return wanted, fmt.Errorf("parent: %w", err)
		}
		under = parent.Mapping()
	}
	mounts := info.MountPoint != info.Content
	switch {
	case mounts && under.IsIdentity() && !info.Remapped && (own.IsIdentity() || own.Equal(wanted)):
		return wanted, nil
	case mounts && under.Equal(wanted) && info.Remapped:
		return wanted, nil
	case !own.Equal(wanted):
		return wanted, fmt.Errorf("with another ID mapping than the layer has: %w", errdefs.ErrUnsupported)
	}
	return idtools.Mapping{}, nil
}

// ownShift is shift for a mount that shows the layer with the owners that its record
// tells; nothing for the zero Layer.
func (tx *ReadTx) ownShift(ctx context.Context, layer Layer) (idtools.Mapping, error) {
	if layer.Mapping().IsIdentity() {
		return idtools.Mapping{}, nil
	}
	info, err := tx.store.driver.Stat(ctx, layer.ID)
	if err != nil {
		return idtools.Mapping{}, err
	}
	return tx.shift(layer, info, layer.Mapping())
}
