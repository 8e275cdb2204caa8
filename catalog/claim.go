package catalog

import (
	"errors"
	"fmt"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/naming"
)

// CheckFree reports whether a record with this ID and these names could be inserted:
// errdefs.ErrDuplicateID, together with the record that has it, errdefs.ErrDuplicateName,
// or errdefs.ErrInvalid for what can't be an ID. An empty ID is always free.
func (tx *ReadTx[R]) CheckFree(id string, names []string) (R, error) {
	var none R
	kind := tx.c.schema.Kind
	if id != "" {
		if err := tx.c.checkID(id); err != nil {
			return none, fmt.Errorf("%s ID: %w", kind, err)
		}
		holder, err := tx.Get(id)
		if err == nil {
			return holder, errdefs.Duplicate{Kind: kind, Holder: id}
		}
		if !errors.Is(err, errdefs.ErrNotFound) {
			return none, err
		}
	}
	for _, name := range names {
		holder, err := tx.Named(name)
		if err == nil {
			return none, errdefs.Duplicate{Kind: kind, Name: name, Holder: tx.c.schema.ID(&holder)}
		}
		if !errors.Is(err, errdefs.ErrNotFound) {
			return none, err
		}
	}
	return none, nil
}

// ChangeNames changes the names of a record. A name that another record has moves away
// from there.
func (tx *WriteTx[R]) ChangeNames(r R, names []string, change naming.Change) error {
	tx.c.schema.SetNames(&r, naming.Apply(tx.c.schema.Names(&r), names, change))
	if err := tx.TakeNames(tx.c.schema.Names(&r), tx.c.schema.ID(&r)); err != nil {
		return err
	}
	return tx.Replace(r)
}

// TakeNames takes names away from all records but the one with this ID, which is about to
// get them.
func (tx *WriteTx[R]) TakeNames(names []string, id string) error {
	for _, name := range names {
		holder, err := tx.Named(name)
		if errors.Is(err, errdefs.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if tx.c.schema.ID(&holder) == id {
			continue
		}
		tx.c.schema.SetNames(&holder, naming.Without(tx.c.schema.Names(&holder), name))
		if err := tx.Replace(holder); err != nil {
			return err
		}
	}
	return nil
}
