package containers

import (
	"fmt"
	"maps"
	"path/filepath"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/internal/bigdata"
)

// BigData returns a data item of a container; errdefs.ErrNotFound when it has none under
// the key.
func (tx *ReadTx) BigData(ref, key string) ([]byte, error) {
	container, err := tx.Lookup(ref)
	if err != nil {
		return nil, err
	}
	data, err := bigdata.Read(tx.store.dataDir(container.ID), key)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", container.ID, err)
	}
	return data, nil
}

// BigDataSize returns the size of a data item in bytes; errdefs.ErrNotFound when the
// container has none under the key.
func (tx *ReadTx) BigDataSize(ref, key string) (int64, error) {
	container, err := tx.Lookup(ref)
	if err != nil {
		return 0, err
	}
	size, err := container.items().Size(tx.store.dataDir(container.ID), key)
	if err != nil {
		return 0, fmt.Errorf("container %s: %w", container.ID, err)
	}
	return size, nil
}

// BigDataDigest returns the digest recorded for a data item; errdefs.ErrNotFound when
// there is none.
func (tx *ReadTx) BigDataDigest(ref, key string) (digest.Digest, error) {
	container, err := tx.Lookup(ref)
	if err != nil {
		return "", err
	}
	d, err := container.items().Digest(key)
	if err != nil {
		return "", fmt.Errorf("container %s: %w", container.ID, err)
	}
	return d, nil
}

// Directory makes and returns the directory in the graph root that belongs to a
// container's users; it goes with the container.
func (tx *ReadTx) Directory(ref string) (string, error) {
	container, err := tx.Lookup(ref)
	if err != nil {
		return "", err
	}
	return bigdata.UserDirectory(tx.store.dataDir(container.ID))
}

// RunDirectory is Directory in the run root, whose content goes at a reboot.
func (tx *ReadTx) RunDirectory(ref string) (string, error) {
	container, err := tx.Lookup(ref)
	if err != nil {
		return "", err
	}
	return bigdata.UserDirectory(tx.store.runDir(container.ID))
}

// Orphans lists the directories of containers that have no record, files in those that
// have one which are none of their items, and what interrupted writes left. Of
// directories only those count that are named as IDs are drawn; others belong to someone
// else.
func (tx *ReadTx) Orphans() ([]string, error) {
	all, err := tx.All()
	if err != nil {
		return nil, err
	}
	get := func(id string) error { _, err := tx.records.Get(id); return err }
	return bigdata.Leavings([]string{tx.store.cfg.Dir, tx.store.cfg.RunDir}, get,
		func(yield func(string, []string) bool) {
			for _, container := range all {
				if !yield(tx.store.dataDir(container.ID), container.BigDataNames) {
					return
				}
			}
		})
}

// Home is the directory in the graph root with the data items of the container that has
// this ID, and with what else belongs to it. It is missing while there is nothing of the
// kind.
func (s *Store) Home(id string) string { return s.dataDir(id) }

// ItemPath is the path of a data item's file. Whoever opens it without the lock may find
// another one, or none.
func (s *Store) ItemPath(id, key string) (string, error) {
	name, err := bigdata.FileName(key)
	return filepath.Join(s.dataDir(id), name), err
}

// ItemSize is the size of a data item on disk in bytes; errdefs.ErrNotFound when it is
// missing, errdefs.ErrInvalid when it is no file.
func (tx *ReadTx) ItemSize(id, key string) (int64, error) {
	return bigdata.Size(tx.store.dataDir(id), key)
}

// RestoreItem writes a data item again that the record has already, and records its size
// anew if that was wrong.
func (tx *WriteTx) RestoreItem(container Container, key string, data []byte) error {
	if err := bigdata.Write(tx.store.dataDir(container.ID), key, data); err != nil {
		return err
	}
	if container.BigDataSizes[key] == int64(len(data)) {
		return nil
	}
	sizes := map[string]int64{}
	maps.Copy(sizes, container.BigDataSizes)
	sizes[key] = int64(len(data))
	container.BigDataSizes = sizes
	return tx.records.Replace(container)
}

// items is what the record says of the container's data items.
func (c *Container) items() bigdata.Index {
	return bigdata.Index{Names: &c.BigDataNames, Sizes: &c.BigDataSizes, Digests: &c.BigDataDigests}
}
