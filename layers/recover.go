package layers

import (
	"context"
	"errors"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
)

// deleteIncomplete finishes what a writer of containers/storage began: it marks a layer
// as incomplete while it creates or deletes it, and holds the lock all the time. Whoever
// finds the mark with the lock in hand knows that the writer is dead.
//
// All of them go in one save. If this process dies too, the next one finds the same
// marks, or files without a record.
func (tx *WriteTx) deleteIncomplete(ctx context.Context) error {
	hidden, err := tx.records.Hidden()
	if err != nil || len(hidden) == 0 {
		return err
	}
	step.Reached(ctx, "incomplete layers found")
	ids := make([]string, len(hidden))
	for i, layer := range hidden {
		ids[i] = layer.ID
	}
	if err := tx.UnmountAll(ctx, ids...); err != nil {
		return err
	}
	// Their files first: the mark stays, for whoever comes next, until nothing is left to
	// do.
	for _, id := range ids {
		if err := tx.DiscardFiles(ctx, id); err != nil {
			return err
		}
	}
	step.Reached(ctx, "files of incomplete layers renamed away")
	for _, id := range ids {
		if err := tx.records.Remove(id); err != nil {
			return err
		}
	}
	return tx.records.Save()
}

// tidy removes what dead processes had staged or thrown away. Each temporary directory
// has a lock of its own, so no store lock is needed. It is done once in the life of a
// Store, when it is first used, as containers/storage does it, and costs the reading of
// two small directories. What can't be removed now is no reason to refuse anything:
// Recover, which garbage collection calls, reports it.
func (s *Store) tidy(ctx context.Context) {
	s.tidying.Lock()
	defer s.tidying.Unlock()
	if !s.tidied {
		_ = s.Recover(ctx)
		s.tidied = ctx.Err() == nil // else it was cut short
	}
}

// Recover removes what processes that are gone had staged or thrown away.
func (s *Store) Recover(ctx context.Context) error {
	err := tempdir.Recover(ctx, s.tmp())
	if r, ok := s.driver.(drivers.Recoverer); ok {
		err = errors.Join(err, r.Recover(ctx))
	}
	return err
}

// TempRoots are all directories with temporary directories in them.
func (s *Store) TempRoots() []string { return append([]string{s.tmp()}, s.cfg.TempRoots...) }
