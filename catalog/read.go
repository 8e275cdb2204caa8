package catalog

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/shalestore/shale/errdefs"
)

// ReadTx reads the records of a catalog while its lock is held. Several goroutines may
// use it at once. After the closure that was given it has returned, all methods return an
// error.
//
// Records that the schema calls hidden are not there for any method but Hidden. What a
// method returns belongs to the caller.
type ReadTx[R any] struct {
	c     *Catalog[R]
	st    *state
	ended atomic.Bool
}

func (tx *ReadTx[R]) end() { tx.ended.Store(true) }

func (tx *ReadTx[R]) check() error {
	if tx.ended.Load() {
		return fmt.Errorf("%w: the transaction is over", errdefs.ErrInvalid)
	}
	return nil
}

// Get returns the record with exactly this ID, or errdefs.ErrNotFound.
func (tx *ReadTx[R]) Get(id string) (R, error) {
	return tx.found(id, func() (*R, error) { return tx.visible(tx.st.ids[id]) })
}

// Named returns the record with exactly this name, or errdefs.ErrNotFound.
func (tx *ReadTx[R]) Named(name string) (R, error) {
	return tx.found(name, func() (*R, error) { return tx.byName(name) })
}

// Lookup returns the record that ref means to a person: the one with that ID, else the
// one with that name, else the one with that key of the schema's Alias, else the only one
// whose ID starts with it. Otherwise it returns errdefs.ErrNotFound, for a prefix of
// several IDs too.
func (tx *ReadTx[R]) Lookup(ref string) (R, error) {
	if ref == "" {
		var none R
		return none, tx.notFound(ref, "the empty reference means nothing")
	}
	return tx.found(ref,
		func() (*R, error) { return tx.visible(tx.st.ids[ref]) },
		func() (*R, error) { return tx.byName(ref) },
		func() (*R, error) { return tx.byAlias(ref) },
		func() (*R, error) { return tx.byPrefix(ref) })
}

// found returns what the first of these ways finds.
func (tx *ReadTx[R]) found(ref string, ways ...func() (*R, error)) (R, error) {
	var none R
	if err := tx.check(); err != nil {
		return none, err
	}
	for _, way := range ways {
		r, err := way()
		if err != nil {
			return none, err
		}
		if r != nil {
			return *r, nil
		}
	}
	return none, tx.notFound(ref, "")
}

func (tx *ReadTx[R]) byName(name string) (*R, error) {
	owners, err := tx.owners()
	if err != nil {
		return nil, err
	}
	return tx.visible(owners[name])
}

func (tx *ReadTx[R]) byAlias(ref string) (*R, error) {
	found, err := tx.Find(tx.c.schema.Alias, ref)
	if len(found) == 0 {
		return nil, err
	}
	return &found[len(found)-1], err
}

func (tx *ReadTx[R]) byPrefix(prefix string) (found *R, err error) {
	for e := range tx.elements() {
		if !strings.HasPrefix(e.id, prefix) {
			continue
		}
		r, err := tx.visible(e)
		if err != nil {
			return nil, err
		}
		if r != nil && found != nil {
			return nil, tx.notFound(prefix, "ambiguous, several IDs start with it")
		}
		found = cmp.Or(r, found)
	}
	return found, nil
}

// Find returns the records that have a key, in the order of the files; none is no error.
func (tx *ReadTx[R]) Find(kind, value string) ([]R, error) {
	if kind == "" {
		return nil, tx.check()
	}
	return tx.collect(nil, holds(value), func(r *R, hidden bool) bool {
		return !hidden && slices.Contains(tx.c.schema.Keys(r), Key{kind, value})
	})
}

// All returns all records in the order of the files.
func (tx *ReadTx[R]) All() ([]R, error) {
	return tx.collect(make([]R, 0, len(tx.st.ids)), nil, func(_ *R, hidden bool) bool { return !hidden })
}

// Hidden returns the records that nothing else returns, in the order of the files.
func (tx *ReadTx[R]) Hidden() ([]R, error) {
	return tx.collect(nil, holds(tx.c.schema.HiddenMark), func(_ *R, hidden bool) bool { return hidden })
}

// collect adds the records to all that are wanted. Of those that may not be, by their
// bytes, not one is decoded; a nil may lets all pass.
func (tx *ReadTx[R]) collect(all []R, may func(*element) bool, wanted func(r *R, hidden bool) bool) ([]R, error) {
	if err := tx.check(); err != nil {
		return nil, err
	}
	for e := range tx.elements() {
		if may != nil && !may(e) {
			continue
		}
		r, err := tx.decode(e)
		if err != nil {
			return nil, err
		}
		if wanted(r, tx.c.schema.Hidden(r)) {
			all = append(all, *r)
		}
	}
	return all, nil
}

// holds returns a quick test for whether a record's JSON may contain a string. It errs on
// the side of yes.
func holds(value string) func(e *element) bool {
	// An escape sequence with \u00 may stand for any ASCII character.
	spellings := [][]byte{[]byte(value), []byte(`\u00`)}
	for _, c := range []byte(value) {
		switch {
		case c == '/':
			spellings = append(spellings[:2], []byte(`\/`))
		case c < ' ' || c > '~' || strings.IndexByte("\"\\<>&", c) >= 0:
			return func(*element) bool { return true } // can't be written as it is, or is written in several ways
		}
	}
	return func(e *element) bool {
		return slices.ContainsFunc(spellings, func(s []byte) bool { return bytes.Contains(e.raw, s) })
	}
}

// FileOf returns the index of the file, as given to New, in which the record with this ID
// stands, hidden or not.
func (tx *ReadTx[R]) FileOf(id string) (int, error) {
	if err := tx.check(); err != nil {
		return 0, err
	}
	if e := tx.st.ids[id]; e != nil {
		return tx.st.fileOf(e), nil
	}
	return 0, tx.notFound(id, "")
}

// elements yields the elements of all files in order.
func (tx *ReadTx[R]) elements() func(yield func(*element) bool) {
	return func(yield func(*element) bool) {
		for i := range tx.st.files {
			for _, e := range tx.st.files[i].elements {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// visible decodes an element, nil if there is none or it is hidden.
func (tx *ReadTx[R]) visible(e *element) (*R, error) {
	if e == nil {
		return nil, nil
	}
	r, err := tx.decode(e)
	if err != nil || tx.c.schema.Hidden(r) {
		return nil, err
	}
	return r, nil
}

// decode decodes an element, and takes from it the names that a later record has too.
func (tx *ReadTx[R]) decode(e *element) (*R, error) {
	r := new(R)
	if err := tx.c.decode.decode(e.raw, r); err != nil {
		return nil, tx.decodeError(e, err)
	}
	if e.names == nil || tx.c.schema.Names == nil || len(tx.c.schema.Names(r)) == 0 {
		return r, nil
	}
	owners, err := tx.owners()
	if err != nil {
		return nil, err
	}
	lost := func(name string) bool { return owners[name] != e }
	if names := tx.c.schema.Names(r); slices.ContainsFunc(names, lost) {
		tx.c.schema.SetNames(r, slices.DeleteFunc(slices.Clone(names), lost))
	}
	return r, nil
}

// decodeError is the error for a record that is JSON but not of this kind.
func (tx *ReadTx[R]) decodeError(e *element, err error) error {
	path := ""
	if i := tx.st.fileOf(e); i >= 0 {
		path = tx.c.files[i].Path
	}
	return errdefs.CorruptFile{Path: path, At: fmt.Sprintf("%s %q", tx.c.schema.Kind, e.id), Err: err}
}

func (tx *ReadTx[R]) notFound(ref, why string) error {
	return errdefs.Missing{Kind: tx.c.schema.Kind, Ref: ref, Why: why}
}
