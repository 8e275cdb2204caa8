package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/atomicfile"
	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/internal/step"
)

// Contradiction is something in the files that no program writes, and that readers get
// over by a rule.
type Contradiction struct {
	ID   string // of the record that loses
	What string
}

// Contradictions lists the names that more than one record has, where the later one has
// it for all who read, and the IDs that come twice, where the first record counts. A
// record that has no ID, or one that can't be, is errdefs.ErrCorrupt: readers may go past
// it, and nothing should be done by its name.
func (tx *ReadTx[R]) Contradictions() ([]Contradiction, error) {
	if err := tx.check(); err != nil {
		return nil, err
	}
	for e := range tx.elements() {
		if err := tx.c.checkID(e.id); err != nil {
			return nil, tx.decodeError(e, err)
		}
	}
	var found []Contradiction
	for i := range tx.st.files {
		for _, id := range tx.st.files[i].hidden {
			found = append(found, Contradiction{id, fmt.Sprintf("there is another record with its ID, in %s",
				tx.c.files[i].Path)})
		}
	}
	owners, err := tx.owners()
	if err != nil {
		return nil, err
	}
	var seen []*element
	for _, e := range tx.st.robbed {
		if tx.st.ids[e.id] != e || slices.Contains(seen, e) {
			continue
		}
		seen = append(seen, e)
		names, err := tx.namesOf(e)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if owner := owners[name]; owner != e {
				found = append(found, Contradiction{e.id, fmt.Sprintf("its name %q is also that of %s", name,
					owner.id)})
			}
		}
	}
	return found, nil
}

// Settle has the next save write the files as everyone reads them, without
// contradictions.
func (tx *WriteTx[R]) Settle() error {
	if err := tx.check(); err != nil {
		return err
	}
	if _, err := tx.owners(); err != nil { // finds them
		return err
	}
	for i := range tx.st.files {
		if len(tx.st.files[i].hidden) > 0 {
			tx.touch(i)
		}
	}
	for _, e := range tx.st.robbed {
		if i := tx.st.fileOf(e); i >= 0 {
			tx.touch(i)
		}
	}
	return nil
}

// Salvaged tells of a file that was damaged.
type Salvaged struct {
	Path string
	Copy string // what the file was before
	Kept int    // records
}

// Salvage takes out of damaged files what can be read: the records before the first fault
// of the grammar, without those that aren't of this kind. What the file was stays beside
// it, as <name>.damaged. Files that are sound aren't touched.
//
// It is for someone who has decided so: the records behind the fault are lost with it.
func (c *Catalog[R]) Salvage(ctx context.Context) (all []Salvaged, err error) {
	held, err := c.acquire(ctx, lockfile.Exclusive)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = nil
	for _, f := range c.files {
		data, _, err := readFile(f.Path)
		if err != nil {
			return all, err
		}
		kept, sound := c.legible(data)
		if sound {
			continue
		}
		aside := f.Path + ".damaged"
		if err := atomicfile.Write(aside, 0o600, true, data); err != nil {
			return all, err
		}
		step.Reached(ctx, string(c.schema.Kind)+" records copied")
		if _, err := held.touch(); err != nil {
			return all, err
		}
		rest := fileState{}
		for i := range kept {
			rest.elements = append(rest.elements, &kept[i])
		}
		if err := atomicfile.WriteFrom(f.Path, fs.FileMode(0o600), true, rest.splice); err != nil {
			return all, err
		}
		step.Reached(ctx, string(c.schema.Kind)+" records salvaged")
		all = append(all, Salvaged{Path: f.Path, Copy: aside, Kept: len(kept)})
	}
	return all, nil
}

// legible returns the records that can be read, and whether those are all.
func (c *Catalog[R]) legible(data []byte) ([]element, bool) {
	all, fault := scan(data)
	sound := fault == nil
	fits := slices.DeleteFunc(all, func(e element) bool {
		_, nameErr := e.nameList()
		bad := nameErr != nil || c.checkID(e.id) != nil || c.decode.decode(e.raw, new(R)) != nil
		sound = sound && !bad
		return bad
	})
	return fits, sound
}

func (c *Catalog[R]) checkID(id string) error {
	if id == "" {
		return fmt.Errorf("%w: a record without an ID", errdefs.ErrInvalid)
	}
	return c.schema.ValidID(id)
}
