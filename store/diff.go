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
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	return r.Layers.Diff(ctx, w, to, from, opts)
}

// Changes lists, in an order that depends on nothing but the files, what layer to has
// changed against layer from, or against its parent when from is "".
func (s *Store) Changes(ctx context.Context, to, from string) ([]diff.Change, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	return r.Layers.Changes(ctx, to, from)
}
