package catalog

import (
	"bytes"
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
	var none R
	if err := tx.check(); err != nil {
		return none, err
	}
	r, err := tx.visible(tx.st.ids[id])
	if err != nil {
		return none, err
	}
	if r == nil {
		return none, tx.notFound(id, "")
	}
	return *r, nil
}

// Lookup returns the record that ref means to a person: the one with that ID, else the
// one with that name, else the one with that key of the schema's Alias, else the only one
// whose ID starts with it. Otherwise it returns errdefs.ErrNotFound, for a prefix of
// several IDs too.
func (tx *ReadTx[R]) Lookup(ref string) (R, error) {
	var none R
	if err := tx.check(); err != nil {
		return none, err
	}
	if ref == "" {
		return none, tx.notFound(ref, "the empty reference means nothing")
	}
	r, err := tx.visible(tx.st.ids[ref])
	if r != nil || err != nil {
		return deref(r), err
	}
	r, err = tx.byName(ref)
	if r != nil || err != nil {
		return deref(r), err
	}
	if alias := tx.c.schema.Alias; alias != "" {
		found, err := tx.Find(alias, ref)
		if err != nil {
			return none, err
		}
		if len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	r, err = tx.byPrefix(ref)
	return deref(r), err
}

// Named returns the record with exactly this name, or errdefs.ErrNotFound.
func (tx *ReadTx[R]) Named(name string) (R, error) {
	var none R
	if err := tx.check(); err != nil {
		return none, err
	}
	r, err := tx.byName(name)
	if err == nil && r == nil {
		err = tx.notFound(name, "")
	}
	return deref(r), err
}

func (tx *ReadTx[R]) byName(name string) (*R, error) {
	if tx.c.schema.Names == nil {
		return nil, nil
	}
	owners, err := tx.owners()
	if err != nil {
		return nil, err
	}
	return tx.visible(owners[name])
}

func (tx *ReadTx[R]) byPrefix(prefix string) (*R, error) {
	var found *R
	for e := range tx.elements() {
		if !strings.HasPrefix(e.id, prefix) {
			continue
		}
		r, err := tx.visible(e)
		if err != nil {
			return nil, err
		}
		if r == nil {
			continue
		}
		if found != nil {
			return nil, tx.notFound(prefix, "ambiguous, several IDs start with it")
		}
		found = r
	}
	if found == nil {
		return nil, tx.notFound(prefix, "")
	}
	return found, nil
}

// Find returns the records that have a key, in the order of the files; none is no error.
func (tx *ReadTx[R]) Find(kind, value string) ([]R, error) {
	if err := tx.check(); err != nil {
		return nil, err
	}
	if tx.c.schema.Keys == nil {
		return nil, nil
	}
	var found []R
	mayHold := holds(value)
	for e := range tx.elements() {
		if !mayHold(e) {
			continue
		}
		r, err := tx.visible(e)
		if err != nil {
			return nil, err
		}
		if r != nil && slices.Contains(tx.c.schema.Keys(r), Key{kind, value}) {
			found = append(found, *r)
		}
	}
	return found, nil
}

// holds returns a quick test for whether a record's JSON may contain a string. It errs on
// the side of yes.
func holds(value string) func(e *element) bool {
	spellings := [][]byte{[]byte(value)}
	for _, c := range []byte(value) {
		switch {
		case c == '/':
			spellings = append(spellings[:1], []byte(`\/`))
		case c < ' ' || c > '~' || strings.IndexByte("\"\\<>&", c) >= 0:
			return func(*element) bool { return true } // can't be written as it is, or is written in several ways
		}
	}
	return func(e *element) bool {
		return slices.ContainsFunc(spellings, func(s []byte) bool { return bytes.Contains(e.raw, s) }) || e.escapes()
	}
}

// escapes reports whether the record has escape sequences that may stand for any ASCII
// character.
func (e *element) escapes() bool {
	return e.remember(escapeSought, escapeFound, func() bool { return bytes.Contains(e.raw, []byte(`\u00`)) })
}

// What remember remembers: in a store of thousands of layers every change asks all
// records the same.
const (
	escapeSought = 1 << iota
	escapeFound
	markSought // the HiddenMark
	markFound
)

// remember asks what doesn't change as long as the record doesn't, the first time.
// Several goroutines may ask at once.
func (e *element) remember(sought, found uint32, ask func() bool) bool {
	known := atomic.LoadUint32(&e.known)
	if known&sought == 0 {
		known = sought
		if ask() {
			known |= found
		}
		atomic.OrUint32(&e.known, known)
	}
	return known&found != 0
}

// All returns all records in the order of the files.
func (tx *ReadTx[R]) All() ([]R, error) {
	if err := tx.check(); err != nil {
		return nil, err
	}
	all := make([]R, 0, len(tx.st.ids))
	for e := range tx.elements() {
		r, err := tx.visible(e)
		if err != nil {
			return nil, err
		}
		if r != nil {
			all = append(all, *r)
		}
	}
	return all, nil
}

// Hidden returns the records that nothing else returns, in the order of the files.
func (tx *ReadTx[R]) Hidden() ([]R, error) {
	if err := tx.check(); err != nil {
		return nil, err
	}
	if tx.c.schema.Hidden == nil {
		return nil, nil
	}
	var hidden []R
	mayHold := holds(tx.c.schema.HiddenMark)
	for e := range tx.elements() {
		if !e.remember(markSought, markFound, func() bool { return mayHold(e) }) {
			continue
		}
		r, err := tx.decode(e)
		if err != nil {
			return nil, err
		}
		if tx.c.schema.Hidden(r) {
			hidden = append(hidden, *r)
		}
	}
	return hidden, nil
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

// visible decodes an element, nil if there is none or it is hidden, and takes from it the
// names that a later record has too.
func (tx *ReadTx[R]) visible(e *element) (*R, error) {
	if e == nil {
		return nil, nil
	}
	r, err := tx.decode(e)
	if err != nil {
		return nil, err
	}
	if hidden := tx.c.schema.Hidden; hidden != nil && hidden(r) {
		return nil, nil
	}
	return r, nil
}

func (tx *ReadTx[R]) decode(e *element) (*R, error) {
	r := new(R)
	if err := tx.c.decode.decode(e.raw, r); err != nil {
		return nil, tx.misfit(e, err)
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

func (tx *ReadTx[R]) owners() (map[string]*element, error) {
	owners, culprit, err := tx.st.owners()
	if err != nil {
		return nil, tx.misfit(culprit, err)
	}
	return owners, nil
}

// misfit is the error for a record that is JSON but not of this kind.
func (tx *ReadTx[R]) misfit(e *element, err error) error {
	path := ""
	if i := tx.st.fileOf(e); i >= 0 {
		path = tx.c.files[i].Path
	}
	return errdefs.CorruptFile{Path: path, At: fmt.Sprintf("%s %q", tx.c.schema.Kind, e.id), Err: err}
}

func (tx *ReadTx[R]) notFound(ref, why string) error {
	return errdefs.Missing{Kind: tx.c.schema.Kind, Ref: ref, Why: why}
}

func deref[R any](r *R) R {
	var none R
	if r == nil {
		return none
	}
	return *r
}
