package catalog

import (
	"context"
	"errors"

	"github.com/shalestore/shale/errdefs"
)

// Records are what every transaction lets everybody read: those of one catalog, or with
// a Stack those of several.
type Records[R any] interface {
	// Get finds a record by its whole ID; errdefs.ErrNotFound when there is none.
	Get(id string) (R, error)
	// Lookup finds a record by what a person calls it: its ID, a name, the schema's
	// Alias, or the beginning of only one ID, in this order. Otherwise
	// errdefs.ErrNotFound.
	Lookup(ref string) (R, error)
	// All returns the records in the order of their files, those of read-only stores
	// last.
	All() ([]R, error)
	// Contradictions are names and IDs that several records have, which readers get over
	// by a rule. A record without an ID is errdefs.ErrCorrupt.
	Contradictions() ([]Contradiction, error)
}

// Reader is Records with what only the package of the kind asks for. Its methods are
// those of ReadTx.
type Reader[R any] interface {
	Records[R]
	Find(kind, value string) ([]R, error)
	Hidden() ([]R, error)
}

// Below is a catalog of another root that is looked into after the store's own.
type Below[R any] struct {
	*Catalog[R]
	// Tx is a transaction of the catalog that is under way already, or nil for Stack to
	// begin one.
	Tx *ReadTx[R]
	// Mark notes in a record where it was found.
	Mark func(*R)
}

// Stack calls fn with a Reader of tx and of the catalogs below it, which it locks for
// that time, shared and in their order (format, sections 1.3 and 11).
//
// A record counts where it is found first. One that is found below by a name is passed
// over if a catalog above has a record with its ID: the name was taken away there. All
// and Find give the records of all catalogs, one after the other; Hidden and
// Contradictions speak of tx alone.
func Stack[R any](ctx context.Context, tx *ReadTx[R], below []Below[R], fn func(Reader[R]) error) error {
	if len(below) == 0 {
		return fn(tx)
	}
	s := &stack[R]{ReadTx: tx}
	var next func(i int) error
	next = func(i int) error {
		if i == len(below) {
			return fn(s)
		}
		descend := func(tx *ReadTx[R]) error {
			s.below = append(s.below, marked[R]{tx, below[i].Mark})
			return next(i + 1)
		}
		if below[i].Tx != nil {
			return descend(below[i].Tx)
		}
		return below[i].View(ctx, descend)
	}
	return next(0)
}

// stack overrides what ReadTx does for one catalog.
type stack[R any] struct {
	*ReadTx[R]
	below []marked[R]
}

type marked[R any] struct {
	*ReadTx[R]
	mark func(*R)
}

func (s *stack[R]) Get(id string) (R, error) {
	r, err := s.ReadTx.Get(id)
	for _, b := range s.below {
		if !errors.Is(err, errdefs.ErrNotFound) {
			break
		}
		if r, err = b.Get(id); err == nil {
			b.mark(&r)
		}
	}
	return r, err
}

func (s *stack[R]) Lookup(ref string) (R, error) {
	r, err := s.ReadTx.Lookup(ref)
	notFound := err
	for i, b := range s.below {
		if !errors.Is(err, errdefs.ErrNotFound) {
			return r, err
		}
		if r, err = b.Lookup(ref); err == nil {
			if id := s.c.schema.ID(&r); id != ref && s.hides(i, id) {
				var none R
				r, err = none, notFound
				continue
			}
			b.mark(&r)
		}
	}
	return r, err
}

// hides reports whether a catalog above the i-th one below has a record with this ID.
func (s *stack[R]) hides(i int, id string) bool {
	if s.st.ids[id] != nil {
		return true
	}
	for _, b := range s.below[:i] {
		if b.st.ids[id] != nil {
			return true
		}
	}
	return false
}

func (s *stack[R]) Find(kind, value string) ([]R, error) {
	return s.gather(func(tx *ReadTx[R]) ([]R, error) { return tx.Find(kind, value) })
}

func (s *stack[R]) All() ([]R, error) {
	return s.gather((*ReadTx[R]).All)
}

func (s *stack[R]) gather(from func(*ReadTx[R]) ([]R, error)) ([]R, error) {
	all, err := from(s.ReadTx)
	if err != nil {
		return nil, err
	}
	for _, b := range s.below {
		found, err := from(b.ReadTx)
		if err != nil {
			return nil, err
		}
		for i := range found {
			b.mark(&found[i])
		}
		all = append(all, found...)
	}
	return all, nil
}
