package graphdriver

import (
	"context"
	"errors"
	"fmt"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/fsat"
	graphdriver "go.podman.io/storage/drivers"
)

// LookupAdditionalLayer asks the additional layer stores for a layer of an image.
func (d *driver[Cleanup, Staged]) LookupAdditionalLayer(toc digest.Digest,
	ref string) (graphdriver.AdditionalLayer, error) {
	return d.additional(func(stores drivers.AdditionalLayers) (drivers.AdditionalLayer, error) {
		return stores.LookupAdditional(context.Background(), toc, ref)
	})
}

// LookupAdditionalLayerByID returns the additional layer that a layer shows.
func (d *driver[Cleanup, Staged]) LookupAdditionalLayerByID(id string) (graphdriver.AdditionalLayer, error) {
	return d.additional(func(stores drivers.AdditionalLayers) (drivers.AdditionalLayer, error) {
		return stores.AdditionalOf(context.Background(), id)
	})
}

func (d *driver[Cleanup, Staged]) additional(find func(drivers.AdditionalLayers) (drivers.AdditionalLayer, error)) (
	graphdriver.AdditionalLayer, error) {
	stores, ok := d.own.(drivers.AdditionalLayers)
	if !ok {
		return nil, fmt.Errorf("%w: the %s driver has no additional layer stores", graphdriver.ErrLayerUnknown,
			d.own.Name())
	}
	layer, err := find(stores)
	if err != nil {
		return nil, translate(err)
	}
	return additionalLayer{layer}, nil
}

// additionalLayer is a layer of ours with the methods of theirs: Info, Blob and Release
// are alike.
type additionalLayer struct{ drivers.AdditionalLayer }

// CreateAs makes a layer that shows this one. The library holds its layer lock, and saves
// the record afterwards.
func (l additionalLayer) CreateAs(id, parent string) error {
	ctx := context.Background()
	staged, err := l.Stage(ctx, parent)
	if err != nil {
		return translate(err)
	}
	if err = fsat.SyncFS(staged.Content()); err == nil {
		err = staged.Commit(ctx, id)
	}
	return translate(errors.Join(err, staged.Discard()))
}
