package images

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/bigdata"
)

// BigData returns a data item of an image; errdefs.ErrNotFound when it has none under the key.
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

// BigDataSize returns the size of a data item in bytes.
func (tx *ReadTx) BigDataSize(ref, key string) (int64, error) {
	image, err := tx.Lookup(ref)
	if err != nil {
		return 0, err
	}
	if size, ok := image.BigDataSizes[key]; ok {
		return size, nil
	}
	data, err := tx.BigData(image.ID, key) // records of old versions hold no sizes
	return int64(len(data)), err
}

// BigDataDigest returns the digest recorded for a data item.
func (tx *ReadTx) BigDataDigest(ref, key string) (digest.Digest, error) {
	image, err := tx.Lookup(ref)
	if err != nil {
		return "", err
	}
	if d, ok := image.BigDataDigests[key]; ok {
		return d, nil
	}
	return "", fmt.Errorf("image %s: digest of data item %q: %w", image.ID, key, errdefs.ErrNotFound)
}

// Directory makes and returns the directory in the graph root that belongs to an image's users; it goes with the image.
func (tx *ReadTx) Directory(ref string) (string, error) {
	return tx.userData(ref, tx.store.itemsOf)
}

// RunDirectory is Directory in the run root, whose content goes at a reboot.
func (tx *ReadTx) RunDirectory(ref string) (string, error) {
	return tx.userData(ref, func(i Image) string { return tx.store.runDir(i.ID) })
}

func (tx *ReadTx) userData(ref string, home func(Image) string) (string, error) {
	image, err := tx.Lookup(ref)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(home(image), "userdata")
	return dir, os.MkdirAll(dir, 0o700)
}

// Orphans lists the directories of images that have no record, files in those that have one which are none of their items, and what interrupted writes left. Of
// directories only those count that are named as IDs are drawn; others belong to someone else.
func (tx *ReadTx) Orphans() ([]string, error) {
	var orphans []string
	homes := []string{tx.store.cfg.Dir, tx.store.cfg.RunDir}
	if graph := tx.store.cfg.GraphDir; graph != "" {
		homes = append(homes, graph)
	}
	for _, home := range homes {
		found, err := bigdata.Orphans(home, func(id string) (bool, error) {
			_, err := tx.records.Get(id)
			if errors.Is(err, errdefs.ErrNotFound) {
				return false, nil
			}
			return true, err
		})
		if err != nil {
			return nil, err
		}
		orphans = append(orphans, found...)
	}
	all, err := tx.records.All()
	if err != nil {
		return nil, err
	}
	for _, image := range all {
		if image.ReadOnly {
			continue
		}
		strays, err := bigdata.Strays(tx.store.itemsOf(image), image.BigDataNames)
		if err != nil {
			return nil, err
		}
		orphans = append(orphans, strays...)
	}
	slices.Sort(orphans)
	return orphans, nil
}

// Home is the directory in the graph root, or the other store that the image is in, with the image's data items and what else belongs to it. It is missing while there is
// nothing of the kind.
func (s *Store) Home(image Image) string { return s.itemsOf(image) }

// ItemPath is the path of a data item's file. Whoever opens it without the lock may find another one, or none.
func (s *Store) ItemPath(image Image, key string) (string, error) {
	name, err := bigdata.FileName(key)
	return filepath.Join(s.itemsOf(image), name), err
}

// ItemSize is the size of a data item on disk in bytes; errdefs.ErrNotFound when it is missing, errdefs.ErrInvalid when it is no file.
func (tx *ReadTx) ItemSize(image Image, key string) (int64, error) {
	return bigdata.Size(tx.store.itemsOf(image), key)
}

// RestoreItem writes a data item again that the record has already.
func (tx *WriteTx) RestoreItem(image Image, key string, data []byte) error {
	if image.ReadOnly {
		return image.refuse()
	}
	return bigdata.Write(tx.store.itemsOf(image), key, data)
}
