package catalog

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/atomicfile"
	"github.com/shalestore/shale/internal/step"
)

// WriteTx changes the records of a catalog while its lock is held exclusively. It sees its own changes. It is not safe for
// concurrent use.
type WriteTx[R any] struct {
	ReadTx[R]
	ctx    context.Context // only for the steps that tests watch: once begun, a save is not called off
	locks  locks
	dirty  map[int]bool // the files to be saved
	broken error        // why nothing can be saved any more
}

// Insert adds a record at the end of a file, given by its index in the arguments of New. It returns errdefs.ErrDuplicateID or
// errdefs.ErrDuplicateName if a record, even a hidden one, has the ID or one of the names.
func (tx *WriteTx[R]) Insert(r R, file int) error {
	if err := tx.check(); err != nil {
		return err
	}
	if file < 0 || file >= len(tx.c.files) {
		return fmt.Errorf("%s %q: %w: the catalog has no file %d", tx.c.schema.Kind, tx.c.schema.ID(&r), errdefs.ErrInvalid, file)
	}
	e, err := tx.encode(&r, nil)
	if err != nil {
		return err
	}
	if tx.st.ids[e.id] != nil {
		return tx.refuse(e, errdefs.ErrDuplicateID)
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

// Replace puts r in the place of the record with its ID. Members of that record which R does not know stay. It returns
// errdefs.ErrNotFound if there is none, and errdefs.ErrDuplicateName if another record has one of the names.
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

// Remove takes out the record with this ID, hidden or not, or returns errdefs.ErrNotFound.
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

// Save makes everything that was changed so far durable, before the transaction ends: a deletion saves before it takes the files
// of a layer away. Files without a change are not written. After an error the transaction is over, and whether
// the change is on disk is for the next one to find out.
func (tx *WriteTx[R]) Save() error {
	if err := tx.check(); err != nil {
		return err
	}
	if !tx.unsaved() {
		return nil
	}
	if err := tx.settleNames(); err != nil {
		return err
	}
	if err := tx.save(); err != nil {
		tx.broken = err
		tx.end()
		return err
	}
	clear(tx.dirty)
	return nil
}

// save writes the files in the order of New: the token comes first, so that nobody can hold the old content to be current.
func (tx *WriteTx[R]) save() error {
	for i, f := range tx.c.files {
		if size := tx.st.files[i].size(); tx.dirty[i] && size > maxFileSize {
			return fmt.Errorf("save %s: %w: its %d bytes are more than the limit of %d", f.Path, errdefs.ErrInvalid, size, maxFileSize)
		}
	}
	token, err := tx.locks.touch()
	if err != nil {
		return err
	}
	tx.st.token = token
	step.Reached(tx.ctx, tx.c.schema.Kind+" token written")
	for i, f := range tx.c.files {
		if !tx.dirty[i] {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
			return err
		}
		fs := &tx.st.files[i]
		if err := atomicfile.WriteFrom(f.Path, 0o600, !f.Volatile, fs.splice); err != nil {
			return err
		}
		fs.hidden = nil
		if fs.stamp, err = stampAt(f.Path); err != nil {
			return err
		}
		step.Reached(tx.ctx, tx.c.schema.Kind+" records written")
	}
	return nil
}

// splice writes the file's array from the elements' own bytes.
func (f *fileState) splice(w *bufio.Writer) error {
	w.WriteByte('[')
	for i, e := range f.elements {
		if i > 0 {
			w.WriteByte(',')
		}
		w.Write(e.raw)
	}
	return w.WriteByte(']') // bufio keeps the first error
}

func (f *fileState) size() int {
	n := 1 + max(1, len(f.elements))
	for _, e := range f.elements {
		n += len(e.raw)
	}
	return n
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

func (tx *WriteTx[R]) refuse(e *element, class error) error {
	return fmt.Errorf("%s %q: %w", tx.c.schema.Kind, e.id, class)
}
