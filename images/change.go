package images

import (
	"fmt"
	"os"
	"slices"

	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/internal/naming"
)

// ChangeNames changes the names of an image. A name that another image has moves away from there. Every name the image gets is put before its
// history.
func (tx *WriteTx) ChangeNames(ref string, names []string, change naming.Change) error {
	image, err := tx.Lookup(ref)
	if err != nil {
		return err
	}
	image.Names = naming.Apply(image.Names, names, change)
	for _, name := range image.Names {
		if err := tx.takeName(name, image.ID); err != nil {
			return err
		}
		image.NamesHistory = naming.Dedupe(append([]string{name}, image.NamesHistory...))
	}
	return tx.records.Replace(image)
}

// takeName takes a name away from all images but the one with this ID.
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

// SetMetadata replaces what the caller keeps with an image.
func (tx *WriteTx) SetMetadata(ref, metadata string) error {
	image, err := tx.Lookup(ref)
	if err != nil {
		return err
	}
	image.Metadata = metadata
	return tx.records.Replace(image)
}

// SetBigData stores a data item with an image, in place of one that has the same key.
func (tx *WriteTx) SetBigData(ref string, item Item) error {
	image, err := tx.Lookup(ref)
	if err != nil {
		return err
	}
	image.describe(item)
	if err := image.settleDigest(); err != nil {
		return err
	}
	if err := bigdata.Write(tx.store.dataDir(image.ID), item.Key, item.Data); err != nil {
		return fmt.Errorf("image %s: %w", image.ID, err)
	}
	return tx.records.Replace(image)
}

// AddMappedLayer adds a layer to an image's list of mapped copies of its top layer, and makes that durable.
func (tx *WriteTx) AddMappedLayer(id, layer string) error {
	image, err := tx.Get(id)
	if err != nil {
		return err
	}
	if slices.Contains(image.MappedLayers, layer) {
		return nil
	}
	image.MappedLayers = append(slices.Clone(image.MappedLayers), layer)
	if err := tx.records.Replace(image); err != nil {
		return err
	}
	return tx.records.Save()
}

// ForgetMappedLayer takes a layer out of an image's list of mapped copies of its top layer.
func (tx *WriteTx) ForgetMappedLayer(id, layer string) error {
	image, err := tx.Get(id)
	if err != nil {
		return err
	}
	if !slices.Contains(image.MappedLayers, layer) {
		return nil
	}
	image.MappedLayers = naming.Without(image.MappedLayers, layer)
	return tx.records.Replace(image)
}

// Delete takes the record of an image out and makes that durable. It returns the directories that belonged to the image; the caller removes them
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

// removeItems removes the data items of an image that has no record.
func (s *Store) removeItems(id string) error { return os.RemoveAll(s.dataDir(id)) }
