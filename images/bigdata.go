package images

import (
	"fmt"
	"maps"
	"path/filepath"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/internal/bigdata"
)

// BigData returns a data item of an image; errdefs.ErrNotFound when it has none under the
// key.
func (tx *ReadTx) BigData(ref, key string) ([]byte, error) {
	image, err := tx.Lookup(ref)
	if err != nil {
		return nil, err
	}
	data, err := bigdata.Read(tx.store.itemsOf(image), key)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image.ID, err)
	}
	return data, nil
}

// BigDataSize returns the size of a data item in bytes; errdefs.ErrNotFound when the
// image has none under the key.
func (tx *ReadTx) BigDataSize(ref, key string) (int64, error) {
	image, err := tx.Lookup(ref)
	if err != nil {
		return 0, err
	}
	size, err := image.items().Size(tx.store.itemsOf(image), key)
	if err != nil {
		return 0, fmt.Errorf("image %s: %w", image.ID, err)
	}
	return size, nil
}

// BigDataDigest returns the digest recorded for a data item; errdefs.ErrNotFound when
// there is none.
func (tx *ReadTx) BigDataDigest(ref, key string) (digest.Digest, error) {
	image, err := tx.Lookup(ref)
	if err != nil {
		return "", err
	}
	d, err := image.items().Digest(key)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", image.ID, err)
	}
	return d, nil
}

// Directory makes and returns the directory in the graph root that belongs to an image's
// users; it goes with the image.
func (tx *ReadTx) Directory(ref string) (string, error) {
	image, err := tx.Lookup(ref)
	if err != nil {
		return "", err
	}
	return bigdata.UserDirectory(tx.store.itemsOf(image))
}

// RunDirectory is Directory in the run root, whose content goes at a reboot.
func (tx *ReadTx) RunDirectory(ref string) (string, error) {
	image, err := tx.Lookup(ref)
	if err != nil {
		return "", err
	}
	return bigdata.UserDirectory(tx.store.runDir(image.ID))
}

// Orphans lists the directories of images that have no record, files in those that have
// one which are none of their items, and what interrupted writes left. Of directories
// only those count that are named as IDs are drawn; others belong to someone else.
func (tx *ReadTx) Orphans() ([]string, error) {
	all, err := tx.records.All()
	if err != nil {
		return nil, err
	}
	cfg := tx.store.cfg
	homes := []string{cfg.Dir, cfg.RunDir}
	if cfg.GraphDir != "" {
		homes = append(homes, cfg.GraphDir)
	}
	get := func(id string) error { _, err := tx.records.Get(id); return err }
	return bigdata.Leavings(homes, get, func(yield func(string, []string) bool) {
		for _, image := range all {
			if !image.ReadOnly && !yield(tx.store.itemsOf(image), image.BigDataNames) {
				return
			}
		}
	})
}

// Home is the directory in the graph root, or the other store that the image is in, with
// the image's data items and what else belongs to it. It is missing while there is
// nothing of the kind.
func (s *Store) Home(image Image) string { return s.itemsOf(image) }

// ItemPath is the path of a data item's file. Whoever opens it without the lock may find
// another one, or none.
func (s *Store) ItemPath(image Image, key string) (string, error) {
	name, err := bigdata.FileName(key)
	return filepath.Join(s.itemsOf(image), name), err
}

// ItemSize is the size of a data item on disk in bytes; errdefs.ErrNotFound when it is
// missing, errdefs.ErrInvalid when it is no file.
func (tx *ReadTx) ItemSize(image Image, key string) (int64, error) {
	return bigdata.Size(tx.store.itemsOf(image), key)
}

// RestoreItem writes a data item again that the record has already, and records its size
// anew if that was wrong.
func (tx *WriteTx) RestoreItem(image Image, key string, data []byte) error {
	if image.ReadOnly {
		return image.refuse()
	}
	if err := bigdata.Write(tx.store.itemsOf(image), key, data); err != nil {
		return err
	}
	if image.BigDataSizes[key] == int64(len(data)) {
		return nil
	}
	sizes := map[string]int64{}
	maps.Copy(sizes, image.BigDataSizes)
	sizes[key] = int64(len(data))
	image.BigDataSizes = sizes
	return tx.replace(image)
}

// items is what the record says of the image's data items.
func (i *Image) items() bigdata.Index {
	return bigdata.Index{Names: &i.BigDataNames, Sizes: &i.BigDataSizes, Digests: &i.BigDataDigests}
}
