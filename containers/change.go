package containers

import (
	"github.com/shalestore/shale/internal/naming"
)

// ChangeNames changes the names of a container. A name that another container has moves
// away from there. A container that doesn't exist is errdefs.ErrNotFound; so it is with
// all changes of a record.
func (tx *WriteTx) ChangeNames(ref string, names []string, change naming.Change) error {
	container, err := tx.Lookup(ref)
	if err != nil {
		return err
	}
	return tx.records.ChangeNames(container, names, change)
}

// SetMetadata replaces what the caller keeps with a container.
func (tx *WriteTx) SetMetadata(ref, metadata string) error {
	container, err := tx.Lookup(ref)
	if err != nil {
		return err
	}
	container.Metadata = metadata
	return tx.records.Replace(container)
}

// Remove takes the record of a container out. It returns the directories that belonged to
// the container; once that is saved the caller removes them before it releases the lock,
// or moves them out of sight.
func (tx *WriteTx) Remove(id string) (dirs []string, err error) {
	if err := tx.records.Remove(id); err != nil {
		return nil, err
	}
	return tx.Directories(Container{ID: id}), nil
}
