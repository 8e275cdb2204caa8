package store

import (
	"context"
	"errors"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/naming"
	"github.com/shalestore/shale/layers"
)

// Names of layers, images and containers are three worlds: the same name, or ID, may mean
// one of each. Where a method takes any of them, a layer is looked for first, then an
// image, then a container.

// Lookup returns the ID of what ref means: a layer, an image or a container, in this
// order.
func (s *Store) Lookup(ctx context.Context, ref string) (id string, err error) {
	err = s.find(ctx, ref, finders{
		layer:     func(l layers.Layer) { id = l.ID },
		image:     func(i images.Image) { id = i.ID },
		container: func(c containers.Container) { id = c.ID },
	})
	return id, err
}

// Exists reports whether ref means anything.
func (s *Store) Exists(ctx context.Context, ref string) (bool, error) {
	_, err := s.Lookup(ctx, ref)
	if errors.Is(err, errdefs.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Names returns the names of a layer, image or container.
func (s *Store) Names(ctx context.Context, ref string) (names []string, err error) {
	err = s.find(ctx, ref, finders{
		layer:     func(l layers.Layer) { names = l.Names },
		image:     func(i images.Image) { names = i.Names },
		container: func(c containers.Container) { names = c.Names },
	})
	return names, err
}

// Metadata returns what the caller keeps with a layer, image or container.
func (s *Store) Metadata(ctx context.Context, ref string) (metadata string, err error) {
	err = s.find(ctx, ref, finders{
		layer:     func(l layers.Layer) { metadata = l.Metadata },
		image:     func(i images.Image) { metadata = i.Metadata },
		container: func(c containers.Container) { metadata = c.Metadata },
	})
	return metadata, err
}

// finders are what is done with what a reference turns out to mean.
type finders struct {
	layer     func(layers.Layer)
	image     func(images.Image)
	container func(containers.Container)
}

// find takes one lock after the other, never two.
func (s *Store) find(ctx context.Context, ref string, found finders) error {
	for _, kind := range []func() error{
		func() error { return call(found.layer)(s.Layer(ctx, ref)) },
		func() error { return call(found.image)(s.Image(ctx, ref)) },
		func() error { return call(found.container)(s.Container(ctx, ref)) },
	} {
		if err := kind(); !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
	}
	return notFound(ref)
}

func call[R any](fn func(R)) func(R, error) error {
	return func(r R, err error) error {
		if err == nil {
			fn(r)
		}
		return err
	}
}

func notFound(ref string) error {
	return errdefs.Missing{Kind: errdefs.AnyObject, Ref: ref}
}

// SetNames replaces the names of a layer, image or container. A name that another one of
// the same kind has moves away from there.
func (s *Store) SetNames(ctx context.Context, ref string, names ...string) error {
	return s.changeNames(ctx, ref, names, naming.Set)
}

// AddNames puts names before those that a layer, image or container has. A name that
// another one of the same kind has moves away from there.
func (s *Store) AddNames(ctx context.Context, ref string, names ...string) error {
	return s.changeNames(ctx, ref, names, naming.Add)
}

// RemoveNames takes names away from a layer, image or container. Names it doesn't have
// are no error.
func (s *Store) RemoveNames(ctx context.Context, ref string, names ...string) error {
	return s.changeNames(ctx, ref, names, naming.Remove)
}

func (s *Store) changeNames(ctx context.Context, ref string, names []string, change naming.Change) error {
	return s.changeAny(ctx, ref,
		func(tx *layers.WriteTx) error { return tx.ChangeNames(ref, names, change) },
		func(tx *images.WriteTx) error { return tx.ChangeNames(ref, names, change) },
		func(tx *containers.WriteTx) error { return tx.ChangeNames(ref, names, change) })
}

// SetMetadata replaces what the caller keeps with a layer, image or container.
func (s *Store) SetMetadata(ctx context.Context, ref, metadata string) error {
	return s.changeAny(ctx, ref,
		func(tx *layers.WriteTx) error { return tx.SetMetadata(ref, metadata) },
		func(tx *images.WriteTx) error { return tx.SetMetadata(ref, metadata) },
		func(tx *containers.WriteTx) error { return tx.SetMetadata(ref, metadata) })
}

// changeAny tries one kind after the other, each under its own lock, until one knows ref.
func (s *Store) changeAny(ctx context.Context, ref string,
	layer func(*layers.WriteTx) error, image func(*images.WriteTx) error,
	container func(*containers.WriteTx) error) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	for _, kind := range []func() error{
		func() error { return r.Layers.Update(ctx, layer) },
		func() error { return r.Images.Update(ctx, image) },
		func() error { return r.Containers.Update(ctx, container) },
	} {
		if err := kind(); !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
	}
	return notFound(ref)
}
