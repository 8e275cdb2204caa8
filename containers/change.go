package containers

import (
	"fmt"
	"os"

	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/internal/naming"
)

// ChangeNames changes the names of a container. A name that another container has moves away from there.
func (tx *WriteTx) ChangeNames(ref string, names []string, change naming.Change) error {
	container, err := tx.Lookup(ref)
	if err != nil {
		return err
	}
	container.Names = naming.Apply(container.Names, names, change)
	for _, name := range container.Names {
		if err := tx.takeName(name, container.ID); err != nil {
			return err
		}
	}
	return tx.records.Replace(container)
}

// takeName takes a name away from all containers but the one with this ID.
func (tx *WriteTx) takeName(name, id string) error {
	holders, err := tx.records.Find(keyName, name)
	if err != nil {
		return err
	}
	for _, holder := range holders {
		if holder.ID == id {
			continue
		}
		holder.Names = naming.Without(holder.Names, name)
		if err := tx.records.Replace(holder); err != nil {
			return err
		}
	}
	return nil
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
func (tx *WriteTx) SetBigData(ref string, item Item) error {
	container, err := tx.Lookup(ref)
	if err != nil {
		return err
	}
	container.describe(item)
	if err := bigdata.Write(tx.store.dataDir(container.ID), item.Key, item.Data); err != nil {
		return fmt.Errorf("container %s: %w", container.ID, err)
	}
	return tx.records.Replace(container)
}

// Delete takes the record of a container out and makes that durable. It returns the directories that belonged to the container; the caller removes them
// before it releases the lock, or moves them out of sight.
func (tx *WriteTx) Delete(id string) (dirs []string, err error) {
	if err := tx.records.Remove(id); err != nil {
		return nil, err
	}
	if err := tx.records.Save(); err != nil {
		return nil, err
	}
	return []string{tx.store.dataDir(id), tx.store.runDir(id)}, nil
}

// removeItems removes the data items of a container that has no record.
func (s *Store) removeItems(id string) error { return os.RemoveAll(s.dataDir(id)) }
