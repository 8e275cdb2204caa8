package layers

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/naming"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/tempdir"
)

// ChangeNames changes the names of a layer. A name that another layer has moves away from
// there. A layer that doesn't exist is errdefs.ErrNotFound, one of a read-only store
// errdefs.ErrReadOnly; so it is with all changes of a record.
func (tx *WriteTx) ChangeNames(ref string, names []string, change naming.Change) error {
	layer, err := tx.lookupOwn(ref)
	if err != nil {
		return err
	}
	return tx.records.ChangeNames(layer, names, change)
}

// lookupOwn is Lookup for a layer that is going to be changed; errdefs.ErrReadOnly when
// it is another store's.
func (tx *WriteTx) lookupOwn(ref string) (Layer, error) {
	layer, err := tx.Lookup(ref)
	if err == nil && layer.ReadOnly {
		err = layer.refuse()
	}
	return layer, err
}

// SetMetadata replaces what the caller keeps with a layer.
func (tx *WriteTx) SetMetadata(ref, metadata string) error {
	layer, err := tx.lookupOwn(ref)
	if err != nil {
		return err
	}
	layer.Metadata = metadata
	return tx.records.Replace(layer)
}

// StagedItem is a data item that is written, but belongs to no layer yet.
type StagedItem struct {
	key   string
	aside *tempdir.Dir
	path  string
}

// StageItem writes a data item aside and syncs it, without a lock. A key that no file can
// be named after is errdefs.ErrInvalid.
func (s *Store) StageItem(key string, data io.Reader) (*StagedItem, error) {
	if _, err := bigdata.FileName(key); err != nil {
		return nil, err
	}
	aside, err := tempdir.New(s.tmp())
	if err != nil {
		return nil, err
	}
	item := &StagedItem{key: key, aside: aside, path: aside.Addition()}
	if err := writeSynced(item.path, data); err != nil {
		return nil, errors.Join(fmt.Errorf("data item %q: %w", key, err), item.Close())
	}
	return item, nil
}

func writeSynced(path string, data io.Reader) error {
	f, err := openat.CreateFile(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Close removes the item, unless it has become a layer's.
func (i *StagedItem) Close() error { return i.aside.Close() }

// SetBigData gives a staged item to a layer, in place of one that has the same key.
// Whoever has that one open keeps reading it.
func (tx *WriteTx) SetBigData(ref string, item *StagedItem) error {
	layer, err := tx.lookupOwn(ref)
	if err != nil {
		return err
	}
	name, err := bigdata.FileName(item.key)
	if err != nil {
		return err
	}
	dir := tx.store.dataDir(layer.ID)
	if err := openat.MakeDirs(filepath.Split(dir)); err != nil {
		return err
	}
	if err := os.Rename(item.path, filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("layer %s: data item %q: %w", layer.ID, item.key, err)
	}
	if err := fsat.SyncDir(dir); err != nil {
		return err
	}
	if slices.Contains(layer.BigDataNames, item.key) {
		return nil
	}
	if err := fsat.SyncDir(tx.store.cfg.Dir); err != nil {
		return err
	}
	layer.BigDataNames = append(layer.BigDataNames, item.key)
	return tx.records.Replace(layer)
}

// BigData opens a data item of a layer; errdefs.ErrNotFound when it has none under the
// key. What is open stays readable when the item is replaced or the layer deleted.
func (tx *ReadTx) BigData(ref, key string) (io.ReadCloser, error) {
	layer, err := tx.Lookup(ref)
	if err != nil {
		return nil, err
	}
	f, err := bigdata.Open(tx.store.Items(layer), key)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", layer.ID, err)
	}
	return f, nil
}
