package layers

import (
	"context"
	"errors"

	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/step"
)

// Sync makes everything in the draft durable. What the kernel couldn't write is an error
// once and for all: the draft is lost then. A volatile layer needs no Sync, and a store
// that is Unsynced has none.
func (d *Draft) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil || d.store.cfg.Unsynced {
		return err
	}
	if err := d.behind.wait(); err != nil {
		return err
	}
	if err := fsat.SyncFS(d.staged.Content()); err != nil {
		return err
	}
	if d.aside != nil {
		same, err := sameFileSystem(d.staged.Content(), d.aside.Path())
		if err != nil {
			return err
		}
		if !same {
			if err := fsat.SyncFS(d.aside.Path()); err != nil {
				return err
			}
		}
	}
	step.Reached(ctx, "layer synced")
	return nil
}

// SyncOrPostpone is Sync for a new layer, except for what comes cheaper with the save of
// its record: where next to nothing waits to be written, the one sync of the file system
// that the save makes before anyone sees the record covers a small layer, and the names
// that Commit changes. A volatile layer, or one of a store that is Unsynced, needs no
// sync at all.
//
// The save is made under locks, where nobody may wait for the disk to swallow a big
// layer, or what somebody else writes just now. So a layer with content is synced at
// once, and so is every layer while others write much; then Commit syncs the names it
// changes one by one.
func (d *Draft) SyncOrPostpone(ctx context.Context) error {
	if d.opts.Volatile || d.store.cfg.Unsynced {
		d.staged.LeaveUnsynced()
		d.unsynced = true
		return ctx.Err()
	}
	syncer, err := fsat.NewSyncer(d.staged.Content())
	if err != nil {
		return err
	}
	d.syncer = syncer
	littleWaits := func() bool { return d.store.records.Gauge().LittleWaits(syncer) }
	if d.aside == nil && littleWaits() {
		step.Reached(ctx, "layer synced") // or as good as
	} else if err := d.Sync(ctx); err != nil || !littleWaits() {
		return err
	}
	// Now there is little left to write. When there is a tar-split file it lies beside
	// the layer, or Commit has to sync its name.
	if d.aside != nil {
		if same, err := sameFileSystem(d.staged.Content(), d.aside.Path()); err != nil || !same {
			return err
		}
	}
	d.staged.LeaveUnsynced()
	d.unsynced = true
	return ctx.Err()
}

// Close removes what is left of the draft: all of it, unless it was committed. It must
// not be called within a transaction. It pays no heed to the context that the draft was
// made with, and can be called again.
func (d *Draft) Close() error {
	_ = d.behind.wait() // whose error has been told by Sync, or matters no longer
	err := errors.Join(d.withdraw(), d.staged.Discard())
	if d.aside != nil {
		err = errors.Join(err, d.aside.Close())
		d.aside = nil
	}
	if d.syncer != nil {
		err = errors.Join(err, d.syncer.Close())
		d.syncer = nil
	}
	return err
}
