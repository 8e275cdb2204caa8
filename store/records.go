package store

import (
	"context"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// readRecords reads all records of a kind; errdefs.ErrCorrupt when one can't be read.
func (s *Store) readRecords(ctx context.Context, kind string) error {
	rooms, err := s.open(ctx)
	if err != nil {
		return err
	}
	switch kind {
	case "layers":
		return rooms.layers.Inspect(ctx, func(tx *layers.ReadTx) error { return readAll(tx.All, tx.Contradictions) })
	case "mounts":
		return rooms.layers.CheckMounts(ctx)
	case "images":
		return rooms.images.View(ctx, func(tx *images.ReadTx) error { return readAll(tx.All, tx.Contradictions) })
	}
	return rooms.containers.View(ctx, func(tx *containers.ReadTx) error { return readAll(tx.All, tx.Contradictions) })
}

func readAll[R any](all func() ([]R, error), contradictions func() ([]catalog.Contradiction, error)) error {
	if _, err := all(); err != nil {
		return err
	}
	_, err := contradictions()
	return err
}

// salvage keeps of a kind's records what can be read.
func (s *Store) salvage(ctx context.Context, kind string) ([]catalog.Salvaged, error) {
	rooms, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "layers":
		return rooms.layers.Salvage(ctx)
	case "mounts":
		return rooms.layers.SalvageMounts(ctx)
	case "images":
		return rooms.images.Salvage(ctx)
	}
	return rooms.containers.Salvage(ctx)
}
