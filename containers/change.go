package containers

import (
	"fmt"
	"os"

	"github.com/shalestore/shale/internal/bigdata"
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
	container.Names = naming.Apply(container.Names, names, change)
	if err := tx.records.TakeNames(container.Names, container.ID); err != nil {
		return err
	}
	return tx.records.Replace(container)
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

// SetBigData stores a data item with a container, in place of one that has the same key.
// A key that no file can be named after is errdefs.ErrInvalid.
func (tx *WriteTx) SetBigData(ref string, item Item) error {
	container, err := tx.Lookup(ref)
	if err != nil {
		return err
	}
	container.items().Enter(item.Key, item.Data, "")
	if err := bigdata.Write(tx.store.dataDir(container.ID), item.Key, item.Data); err != nil {
		return fmt.Errorf("container %s: %w", container.ID, err)
	}
	return tx.records.Replace(container)
}

// Remove takes the record of a container out. It returns the directories that belonged to
// the container; once that is saved the caller removes them before it releases the lock,
// or moves them out of sight.
func (tx *WriteTx) Remove(id string) (dirs []string, err error) {
	if err := tx.records.Remove(id); err != nil {
		return nil, err
	}
	return []string{tx.store.dataDir(id), tx.store.runDir(id)}, nil
}

// removeItems removes the data items of a container that has no record.
func (s *Store) removeItems(id string) error { return os.RemoveAll(s.dataDir(id)) }
