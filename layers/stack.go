package layers

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/ident"
	"github.com/shalestore/shale/internal/step"
)

// The layers of an image can be drafts at the same time, each on top of the one before
// it, and be filled side by side. They are synced together and then added in order, in
// one transaction with one save:
//
//	base, err := s.Prepare(ctx, parent, opts)
//	next, err := s.PrepareOn(ctx, base, opts)
//	... Fill both, in two goroutines ...
//	err = SyncTogether(ctx, []*Draft{base, next})
//	err = s.Update(ctx, func(tx *WriteTx) error { tx.Add(base); tx.Add(next); return tx.Records().Save() })
//
// A crash before the save leaves files without a record, as that of a single layer does.

// PrepareOn is Prepare on top of a draft, which must be added before the new one is. It
// returns errdefs.ErrUnsupported where a layer has to be complete before another can lie
// on it: with drivers that copy, and where the owners of what is beneath have to be
// translated.
func (s *Store) PrepareOn(ctx context.Context, below *Draft, opts CreateOptions) (*Draft, error) {
	if below.opts.ID == "" {
		below.opts.ID = ident.New()
	}
	parent := below.record
	parent.ID = below.opts.ID
	if below.behind == nil {
		below.behind = newWriteBehind(below)
	}
	d, err := s.prepare(ctx, &parent, below, opts)
	if err == nil {
		d.behind = below.behind
	}
	return d, err
}

// stageOn is stage for a layer on top of a draft.
func (d *Draft) stageOn(ctx context.Context, opts drivers.StageOptions) error {
	stacker, ok := d.store.driver.(drivers.Stacker)
	if !ok || d.opts.Shift || !d.lowerMapping.Equal(d.idMap) {
		return fmt.Errorf("a layer on layer %s, which isn't complete: %w", d.lower, errdefs.ErrUnsupported)
	}
	staged, err := stacker.StageOn(ctx, d.lowerDraft.staged, d.lower, opts)
	if err != nil {
		return err
	}
	d.staged = staged
	step.Reached(ctx, "layer staged")
	return nil
}

// SyncTogether is Sync for drafts that are filled, of which each lies on the one before
// it. They must then be added in one transaction: the last one makes the others' names
// durable with its own.
func SyncTogether(ctx context.Context, drafts []*Draft) error {
	for _, d := range drafts {
		if d.lowerDraft != nil && (d.result == nil || !d.result.Root) {
			if err := d.staged.TakeRoot(); err != nil {
				return err
			}
		}
	}
	for _, d := range drafts {
		if d.lowerDraft == nil {
			continue
		}
		if err := d.settleWhiteouts(ctx); err != nil {
			return err
		}
	}
	last := len(drafts) - 1
	if err := drafts[last].Sync(ctx); err != nil {
		return err
	}
	unsynced := drafts[:last]
	if drafts[last].store.cfg.Unsynced {
		unsynced = drafts
	}
	for _, d := range unsynced {
		d.staged.LeaveUnsynced()
		d.unsynced = true
	}
	return nil
}
