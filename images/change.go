package images

import (
	"errors"
	"slices"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/naming"
)

// ChangeNames changes the names of an image. A name that another image has moves away
// from there. Every name the image gets is put before its history. An image that doesn't
// exist is errdefs.ErrNotFound.
//
// An image of a read-only store gets a record of its own first, with the same ID, layers
// and data items, which from then on hides the other one.
func (tx *WriteTx) ChangeNames(ref string, names []string, change naming.Change) error {
	image, err := tx.Lookup(ref)
	if err != nil {
		return err
	}
	if image.ReadOnly {
		if image, err = tx.pullUp(image); err != nil {
			return err
		}
	}
	if err := catalog.ValidNames(errdefs.Image, names, image.Names...); err != nil && change != naming.Remove {
		return err
	}
	image.Names = naming.Apply(image.Names, names, change)
	if err := tx.takeNames(image.Names, image.ID); err != nil {
		return err
	}
	for _, name := range image.Names {
		image.NamesHistory = naming.Dedupe(append([]string{name}, image.NamesHistory...))
	}
	return tx.Replace(image)
}

// pullUp copies the record and the data items of an image of a read-only store into this
// one.
func (tx *WriteTx) pullUp(image Image) (Image, error) {
	names, err := tx.freeNames(image.Names)
	if err != nil {
		return Image{}, err
	}
	return tx.Create(Options{ID: image.ID, Names: names, TopLayer: image.TopLayer}) // which takes over all the rest
}

// freeNames leaves out the names that one of the store's own images has.
func (tx *WriteTx) freeNames(names []string) ([]string, error) {
	var free []string
	for _, name := range names {
		_, err := tx.own.Named(name)
		if errors.Is(err, errdefs.ErrNotFound) {
			free = append(free, name)
		} else if err != nil {
			return nil, err
		}
	}
	return free, nil
}

// Replace saves a changed record where it was found; errdefs.ErrReadOnly for an image of
// a read-only store.
func (tx *WriteTx) Replace(image Image) error {
	records, err := tx.recordsOf(image)
	if err != nil {
		return err
	}
	return records.Replace(image)
}

func (tx *WriteTx) recordsOf(image Image) (*catalog.WriteTx[Image], error) {
	switch {
	case image.ReadOnly:
		return nil, image.refuse()
	case image.home != "":
		return tx.graph, nil
	}
	return tx.records, nil
}

// takeNames takes names away from all images but the one with this ID. Those of read-only
// stores keep theirs: they are found later.
func (tx *WriteTx) takeNames(names []string, id string) error {
	if err := tx.records.TakeNames(names, id); err != nil || tx.graph == nil {
		return err
	}
	return tx.graph.TakeNames(names, id)
}

// SetMetadata replaces what the caller keeps with an image; errdefs.ErrNotFound when
// there is none, errdefs.ErrReadOnly when it is another store's. So it is with all
// changes but that of names.
func (tx *WriteTx) SetMetadata(ref, metadata string) error {
	image, err := tx.Lookup(ref)
	if err != nil {
		return err
	}
	image.Metadata = metadata
	return tx.Replace(image)
}

// AddMappedLayer adds a layer to an image's list of mapped copies of its top layer, and
// makes that durable.
func (tx *WriteTx) AddMappedLayer(id, layer string) error {
	image, err := tx.Get(id)
	if err != nil {
		return err
	}
	if slices.Contains(image.MappedLayers, layer) {
		return nil
	}
	image.MappedLayers = append(slices.Clone(image.MappedLayers), layer)
	if err := tx.Replace(image); err != nil {
		return err
	}
	records, err := tx.recordsOf(image)
	if err != nil {
		return err
	}
	return records.Save()
}

// ForgetMappedLayer takes a layer out of an image's list of mapped copies of its top
// layer.
func (tx *WriteTx) ForgetMappedLayer(id, layer string) error {
	image, err := tx.Get(id)
	if err != nil {
		return err
	}
	if !slices.Contains(image.MappedLayers, layer) {
		return nil
	}
	image.MappedLayers = naming.Without(image.MappedLayers, layer)
	return tx.Replace(image)
}

// Delete takes the record of an image out and makes that durable. It returns the
// directories that belonged to the image; the caller removes them before it releases the
// lock, or moves them out of sight.
func (tx *WriteTx) Delete(id string) (dirs []string, err error) {
	image, err := tx.Get(id)
	if err != nil {
		return nil, err
	}
	records, err := tx.recordsOf(image)
	if err != nil {
		return nil, err
	}
	if err := records.Remove(id); err != nil {
		return nil, err
	}
	if err := records.Save(); err != nil {
		return nil, err
	}
	return tx.Directories(image), nil
}
