package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/naming"
)

// A name belongs to one record. Files made by racing or older programs can break that,
// and then the later record has the name, in what we read at once and in the files after
// the next save.

// owners returns which element has which name; nil for records without names. The index
// is made at the first call and kept up to date from then on.
func (tx *ReadTx[R]) owners() (map[string]*element, error) {
	st := tx.st
	if tx.c.schema.Names == nil {
		return nil, nil
	}
	st.nameOnce.Do(func() {
		st.names = make(map[string]*element)
		for e := range tx.elements() {
			var names []string
			if names, st.nameErr = tx.namesOf(e); st.nameErr != nil {
				return
			}
			for _, name := range names {
				if before := st.names[name]; before != nil && before != e {
					st.robbed = append(st.robbed, before)
				}
				st.names[name] = e
			}
		}
	})
	return st.names, st.nameErr
}

// nameList decodes the names as they stand in the file.
func (e *element) nameList() (names []string, err error) {
	if e.names != nil {
		err = json.Unmarshal(e.names, &names)
	}
	return names, err
}

// namesOf is nameList for records that have names.
func (tx *ReadTx[R]) namesOf(e *element) ([]string, error) {
	if tx.c.schema.Names == nil {
		return nil, nil
	}
	names, err := e.nameList()
	if err != nil {
		return nil, tx.decodeError(e, err)
	}
	return names, nil
}

// claim returns the names of an element that is about to take its place, unless another
// record has one of them.
func (tx *WriteTx[R]) claim(e *element) ([]string, error) {
	owners, err := tx.owners()
	if err != nil {
		return nil, err
	}
	names, err := tx.namesOf(e)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if owner := owners[name]; owner != nil && owner.id != e.id {
			return nil, errdefs.Duplicate{Kind: tx.c.schema.Kind, Name: name, Holder: owner.id}
		}
	}
	return names, nil
}

// give makes an element the owner of names that it has claimed.
func (tx *WriteTx[R]) give(names []string, e *element) {
	for _, name := range names {
		tx.st.names[name] = e
	}
}

// loseNames frees the names that an element owns, before another takes its place or none.
func (tx *WriteTx[R]) loseNames(e *element) error {
	owners, err := tx.owners()
	if err != nil {
		return err
	}
	names, err := tx.namesOf(e)
	if err != nil {
		return err
	}
	for _, name := range names {
		if owners[name] == e {
			delete(owners, name)
		}
	}
	return nil
}

// settleNames takes names out of the records that lost them to a later one, so that the
// files say it too.
func (tx *WriteTx[R]) settleNames() error {
	if _, err := tx.owners(); err != nil {
		return err
	}
	for _, before := range tx.st.robbed {
		if tx.st.ids[before.id] != before {
			continue // replaced or removed meanwhile
		}
		r, err := tx.decode(before)
		if err != nil {
			return err
		}
		e, err := tx.encode(r, before)
		if err != nil {
			return err
		}
		if err := tx.loseNames(before); err != nil {
			return err
		}
		tx.put(before, e)
		tx.give(tx.c.schema.Names(r), e)
	}
	tx.st.robbed = nil
	return nil
}

// CheckFree reports whether a record with this ID and these names could be inserted:
// errdefs.ErrDuplicateID, together with the record that has it, errdefs.ErrDuplicateName,
// or errdefs.ErrInvalid for what can't be an ID. An empty ID is always free.
func (tx *ReadTx[R]) CheckFree(id string, names []string) (R, error) {
	var none R
	kind := tx.c.schema.Kind
	if err := ValidNames(kind, names); err != nil {
		return none, err
	}
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
			return holder, errdefs.Duplicate{Kind: kind, Name: name, Holder: tx.c.schema.ID(&holder)}
		}
		if !errors.Is(err, errdefs.ErrNotFound) {
			return none, err
		}
	}
	return none, nil
}

// ValidNames returns errdefs.ErrInvalid for names that nothing gets any more: an empty
// one means nothing, and one with control characters, or that isn't UTF-8, can pass
// itself off as something else in a list. A record that has one already may keep it.
func ValidNames(kind errdefs.Kind, names []string, has ...string) error {
	for _, name := range names {
		if slices.Contains(has, name) {
			continue
		}
		control := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) }
		if name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, control) {
			return fmt.Errorf("%s name %q: %w: a name is a text in UTF-8 on one line", kind, name, errdefs.ErrInvalid)
		}
	}
	return nil
}

// ChangeNames changes the names of a record. A name that another record has moves away
// from there.
func (tx *WriteTx[R]) ChangeNames(r R, names []string, change naming.Change) error {
	if err := ValidNames(tx.c.schema.Kind, names, tx.c.schema.Names(&r)...); err != nil && change != naming.Remove {
		return err
	}
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
