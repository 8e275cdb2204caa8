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
	data, err := bigdata.Read(tx.store.dataDir(image.ID), key)
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
	return tx.userData(ref, tx.store.dataDir)
}

// RunDirectory is Directory in the run root, whose content goes at a reboot.
func (tx *ReadTx) RunDirectory(ref string) (string, error) {
	return tx.userData(ref, tx.store.runDir)
}

func (tx *ReadTx) userData(ref string, home func(id string) string) (string, error) {
	image, err := tx.Lookup(ref)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(home(image.ID), "userdata")
	return dir, os.MkdirAll(dir, 0o700)
}

// Orphans lists the directories of images that have no record, and what interrupted writes left beside them. Only names that IDs are drawn as count; others belong to someone else.
func (tx *ReadTx) Orphans() ([]string, error) {
	var orphans []string
	for _, home := range []string{tx.store.cfg.Dir, tx.store.cfg.RunDir} {
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
	slices.Sort(orphans)
	return orphans, nil
}
