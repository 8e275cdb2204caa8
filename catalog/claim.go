package catalog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shalestore/shale/errdefs"
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
		rest := slices.DeleteFunc(slices.Clone(tx.c.schema.Names(&holder)),
			func(other string) bool { return other == name })
		tx.c.schema.SetNames(&holder, rest)
		if err := tx.Replace(holder); err != nil {
			return err
		}
	}
	return nil
}
