package layers

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/ident"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
	"golang.org/x/sys/unix"
)

// WriteTx is a change of the layers while nobody else looks or changes.
type WriteTx struct {
	ReadTx
	records *catalog.WriteTx[Layer]
	trash   []drivers.Trash      // emptied when the lock is released
	mounts  []catalog.Mountpoint // as table has read them; nil before
	bin     *tempdir.Dir         // in trash; holds what the driver doesn't know
}

// CheckFree reports whether a layer with this ID and these names could be created:
// errdefs.ErrDuplicateID, together with the layer that has it, or
// errdefs.ErrDuplicateName. An ID that breaks the grammar is errdefs.ErrInvalid. An empty
// ID is always free.
func (tx *ReadTx) CheckFree(id string, names []string) (Layer, error) {
	return tx.own.CheckFree(id, names)
}

// Commit makes a draft a layer: Add and Save in one. When it returns nil the layer is
// durable (unless it is volatile).
func (tx *WriteTx) Commit(ctx context.Context, d *Draft) (Layer, error) {
	layer, err := tx.Add(ctx, d)
	if err != nil {
		return layer, err
	}
	if err := tx.records.Save(); err != nil {
		return Layer{}, fmt.Errorf("layer %s: %w", layer.ID, err)
	}
	d.Recorded()
	step.Reached(ctx, "layer recorded")
	return layer, nil
}

// SetMountLabel changes what CreateOptions.MountLabel was, until Add.
func (d *Draft) SetMountLabel(label string) { d.record.MountLabel = label }

// Add makes a draft a layer but for the save, which is the caller's, who has other
// records to save as well: it checks again what may have changed since Prepare, renames
// the files in and inserts the record. After the save the caller calls d.Recorded.
// Without that the draft's Close removes what is in place.
//
// It returns errdefs.ErrDuplicateID together with the layer that has the ID,
// errdefs.ErrDuplicateName, or errdefs.ErrNotFound when the parent is gone.
func (tx *WriteTx) Add(ctx context.Context, d *Draft) (Layer, error) {
	if existing, err := tx.CheckFree(d.opts.ID, d.record.Names); err != nil {
		return existing, err
	}
	if d.record.Parent != "" {
		if _, err := tx.Get(d.record.Parent); err != nil {
			return Layer{}, fmt.Errorf("parent: %w", err)
		}
	}
	if d.lower != "" {
		lower, err := tx.Get(d.lower)
		if err != nil {
			return Layer{}, fmt.Errorf("parent: %w", err)
		}
		if !lower.Mapping().Equal(d.lowerMapping) {
			return Layer{}, fmt.Errorf("parent %s: ID mapping changed meanwhile: %w", lower.ID, errdefs.ErrBusy)
		}
	}
	record := d.record
	record.ID = d.opts.ID
	if record.ID == "" {
		record.ID = ident.New()
	}
	record.Created = time.Now().UTC()

	d.placed = record.ID
	err := d.staged.Commit(ctx, record.ID)
	if err == nil {
		step.Reached(ctx, "layer directory in place")
		err = tx.commitBeside(ctx, d, record.ID)
	}
	if err == nil {
		err = tx.records.Insert(record, d.file())
	}
	if err != nil {
		return Layer{}, fmt.Errorf("layer %s: %w", record.ID, err)
	}
	if d.unsynced && d.syncer != nil {
		tx.records.SyncBefore(d.syncer)
	}
	return record, nil
}

// Insert enters the record of a layer whose files are in place, among those of the image
// store or of the store itself.
func (tx *WriteTx) Insert(layer Layer, inImageStore bool) error {
	if inImageStore {
		return tx.records.Insert(layer, tx.store.files.image)
	}
	return tx.records.Insert(layer, tx.store.files.stable)
}

// Replace puts the record in the place of the one that has its ID.
func (tx *WriteTx) Replace(layer Layer) error { return tx.records.Replace(layer) }

// Records are the changes of this transaction, to be saved together with others.
func (tx *WriteTx) Records() catalog.Changes { return tx.records }

// Recorded tells the draft that its record is saved: from now on it is a layer, and Close
// leaves it alone.
func (d *Draft) Recorded() { d.placed = "" }

// commitBeside moves the tar-split file and the data items to their places, and moves
// away what an interrupted operation left there.
func (tx *WriteTx) commitBeside(ctx context.Context, d *Draft, id string) error {
	s := tx.store
	for _, move := range []struct{ from, to string }{
		{d.tarSplit, s.TarSplit(Layer{ID: id})},
		{d.dataDir, s.dataDir(id)},
	} {
		if d.opts.ID != "" { // else it was drawn just now, and nothing can be there
			if err := tx.DiscardIfThere(move.to); err != nil {
				return err
			}
		}
		if move.from == "" {
			continue
		}
		if err := os.Rename(move.from, move.to); err != nil {
			return err
		}
	}
	if d.tarSplit == "" && d.dataDir == "" {
		return nil
	}
	step.Reached(ctx, "tar-split file and data items in place")
	if d.unsynced {
		return nil
	}
	// The record must not become durable before the names of what it promises.
	return fsat.SyncDir(s.cfg.Dir)
}

// file is the one that the record belongs into.
func (d *Draft) file() int {
	switch files := d.store.files; {
	case d.opts.Volatile:
		return files.volatile
	case !d.opts.Writable:
		return files.image
	default:
		return files.stable
	}
}

// withdraw removes what a commit that failed has left in the store. The record may be
// there or not: when a save fails, only reading tells. It needs a transaction of its own,
// since a failed save ends the one it was made in.
func (d *Draft) withdraw() error {
	if d.placed == "" {
		return nil
	}
	ctx, cancel := undoContext(context.Background())
	defer cancel()
	err := d.store.Update(ctx, func(tx *WriteTx) error {
		if _, err := tx.Get(d.placed); err == nil {
			return tx.Delete(ctx, d.placed)
		}
		return tx.DiscardFiles(ctx, d.placed)
	})
	d.placed = ""
	return err
}

// undoContext is for work that must be done although ctx has ended. Its limit is far
// beyond what a few renames take.
func undoContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
}

func sameFileSystem(a, b string) (bool, error) {
	var sa, sb unix.Stat_t
	if err := unix.Stat(a, &sa); err != nil {
		return false, &os.PathError{Op: "stat", Path: a, Err: err}
	}
	if err := unix.Stat(b, &sb); err != nil {
		return false, &os.PathError{Op: "stat", Path: b, Err: err}
	}
	return sa.Dev == sb.Dev, nil
}
