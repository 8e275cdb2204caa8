package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
)

// WriteTx changes the records of a catalog while its lock is held exclusively. It sees
// its own changes. It is not safe for concurrent use.
type WriteTx[R any] struct {
	ReadTx[R]
	ctx    context.Context // only for the steps that tests watch: once begun, a save is not called off
	locks  locks
	dirty  map[int]bool   // the files to be saved
	after  []*fsat.Syncer // the file systems that must be synced before the records are seen
	broken error          // why nothing can be saved any more
}

// Insert adds a record at the end of a file, given by its index in the arguments of New.
// It returns errdefs.ErrDuplicateID or errdefs.ErrDuplicateName if a record, even a
// hidden one, has the ID or one of the names.
func (tx *WriteTx[R]) Insert(r R, file int) error {
	if err := tx.check(); err != nil {
		return err
	}
	if file < 0 || file >= len(tx.c.files) {
		return fmt.Errorf("%s %q: %w: the catalog has no file %d", tx.c.schema.Kind, tx.c.schema.ID(&r),
			errdefs.ErrInvalid, file)
	}
	e, err := tx.encode(&r, nil)
	if err != nil {
		return err
	}
	if tx.st.ids[e.id] != nil {
		return errdefs.Duplicate{Kind: tx.c.schema.Kind, Holder: e.id}
	}
	names, err := tx.claim(e)
	if err != nil {
		return err
	}
	f := &tx.st.files[file]
	f.elements = append(f.elements, e)
	tx.st.ids[e.id] = e
	tx.give(names, e)
	tx.touch(file)
	return nil
}

// Replace puts r in the place of the record with its ID. Members of that record which R
// does not know stay. It returns errdefs.ErrNotFound if there is none, and
// errdefs.ErrDuplicateName if another record has one of the names.
func (tx *WriteTx[R]) Replace(r R) error {
	if err := tx.check(); err != nil {
		return err
	}
	id := tx.c.schema.ID(&r)
	before := tx.st.ids[id]
	if before == nil {
		return tx.notFound(id, "")
	}
	e, err := tx.encode(&r, before)
	if err != nil {
		return err
	}
	names, err := tx.claim(e)
	if err != nil {
		return err
	}
	if err := tx.loseNames(before); err != nil {
		return err
	}
	tx.put(before, e)
	tx.give(names, e)
	return nil
}

// Remove takes out the record with this ID, hidden or not, or returns
// errdefs.ErrNotFound.
func (tx *WriteTx[R]) Remove(id string) error {
	if err := tx.check(); err != nil {
		return err
	}
	e := tx.st.ids[id]
	if e == nil {
		return tx.notFound(id, "")
	}
	if err := tx.loseNames(e); err != nil {
		return err
	}
	delete(tx.st.ids, id)
	for i := range tx.st.files {
		f := &tx.st.files[i]
		if k := slices.Index(f.elements, e); k >= 0 {
			f.elements = slices.Delete(f.elements, k, k+1)
			tx.touch(i)
		}
		if slices.Contains(f.hidden, id) {
			tx.touch(i) // or the record it hides would come to light
		}
	}
	return nil
}

// put exchanges an element in its file.
func (tx *WriteTx[R]) put(before, after *element) {
	i := tx.st.fileOf(before)
	f := &tx.st.files[i]
	f.elements[slices.Index(f.elements, before)] = after
	tx.st.ids[after.id] = after
	tx.touch(i)
}

func (tx *WriteTx[R]) touch(file int) {
	if tx.dirty == nil {
		tx.dirty = make(map[int]bool)
	}
	tx.dirty[file] = true
}

func (tx *WriteTx[R]) unsaved() bool { return len(tx.dirty) > 0 || tx.broken != nil }

// check makes a broken transaction as unusable as one that is over.
func (tx *WriteTx[R]) check() error {
	if tx.broken != nil {
		return fmt.Errorf("the transaction is over after an error: %w", tx.broken)
	}
	return tx.ReadTx.check()
}

func (tx *WriteTx[R]) encode(r *R, before *element) (*element, error) {
	id := tx.c.schema.ID(r)
	e, err := tx.c.encode(r, before)
	if err == nil && (id == "" || e.id != id) {
		err = fmt.Errorf("%w: an ID is a string in UTF-8 that is not empty", errdefs.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", tx.c.schema.Kind, id, err)
	}
	return e, nil
}
