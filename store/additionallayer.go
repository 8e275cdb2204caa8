package store

import (
	"context"
	"fmt"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
)

// AdditionalLayer is a layer of an additional layer store that isn't in this store yet.
// It is in use until Release.
type AdditionalLayer struct {
	// Info tells the layer's digests, sizes and compression as its store knows them. It
	// has no ID.
	Info  layers.Layer
	store *Store
	found drivers.AdditionalLayer
}

// LookupAdditionalLayer asks the additional layer stores of storage.conf for a layer,
// given the digest of its table of contents and the reference of the image to be pulled
// ("docker.io/library/debian:12"). It is errdefs.ErrNotFound where none has it: the layer
// has to be imported then. The answer may take as long as the layer store needs to find
// out.
func (s *Store) LookupAdditionalLayer(ctx context.Context, toc digest.Digest,
	reference string) (*AdditionalLayer, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	stores, ok := r.Driver.(drivers.AdditionalLayers)
	if !ok {
		return nil, fmt.Errorf("additional layer %s: %w: the %s driver has no additional layer stores", toc,
			errdefs.ErrNotFound, r.Driver.Name())
	}
	found, err := stores.LookupAdditional(ctx, toc, reference)
	if err != nil {
		return nil, err
	}
	info, err := layers.ReadInfo(found)
	if err != nil {
		found.Release()
		return nil, fmt.Errorf("additional layer %s: %w", toc, err)
	}
	return &AdditionalLayer{Info: info, store: s, found: found}, nil
}

// Release ends the use of the layer by this object; layers made of it go on.
func (a *AdditionalLayer) Release() { a.found.Release() }

// PutAs makes a layer of the store that shows this one, without copying anything; it
// needs the layer store from then on. Of opts, ID, Parent, Names and Metadata count.
// Errors are those of CreateLayer.
func (a *AdditionalLayer) PutAs(ctx context.Context, opts layers.CreateOptions) (created layers.Layer, err error) {
	r, err := a.store.Roots(ctx)
	if err != nil {
		return layers.Layer{}, err
	}
	parent, existing, err := planLayer(ctx, r, opts)
	if err != nil {
		return existing, err
	}
	d, err := r.Layers.PrepareAdditional(ctx, parent, a.found, opts)
	if err != nil {
		return layers.Layer{}, describeLayer(opts.ID, err)
	}
	defer d.Close() // what can't be removed is stale, and goes with the next writer
	return recordLayer(ctx, r, opts.ID, parent, d)
}
