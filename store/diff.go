package store

import (
	"context"
	"io"

	"github.com/shalestore/shale/archive/diff"
)

// Diff writes the tar that turns layer from, its parent when from is "", into layer to. A
// layer that came as a tar goes out as the same bytes, in the compression it had unless
// opts names another; one that was compressed by another program doesn't give the same
// compressed bytes.
//
// No lock is held while bytes flow. If to is deleted or changed meanwhile Diff fails with
// errdefs.ErrBusy; what was written then is worthless. A file that isn't any more what it
// was when the layer was made is errdefs.ErrCorrupt.
func (s *Store) Diff(ctx context.Context, w io.Writer, to, from string, opts DiffOptions) error {
	roots, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	return roots.Layers.Diff(ctx, w, to, from, opts)
}

// Changes lists, in an order that depends on nothing but the files, what layer to has
// changed against layer from, or against its parent when from is "".
func (s *Store) Changes(ctx context.Context, to, from string) ([]diff.Change, error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	return roots.Layers.Changes(ctx, to, from)
}

// DiffSize estimates, in bytes, the content of Diff: the sizes of added and changed
// files.
func (s *Store) DiffSize(ctx context.Context, to, from string) (int64, error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	return roots.Layers.DiffSize(ctx, to, from)
}

// LayerSize is the size of a layer's uncompressed tar in bytes, or -1 when the layer
// didn't come as one.
func (s *Store) LayerSize(ctx context.Context, ref string) (int64, error) {
	layer, err := s.Layer(ctx, ref)
	if err != nil {
		return 0, err
	}
	return layer.Size(), nil
}
