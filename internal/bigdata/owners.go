package bigdata

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/openat"
)

// Item is a data item to store.
type Item struct {
	Key  string
	Data []byte
	// Digest is recorded for the item; "" means the SHA-256 of Data. Only a signed Docker
	// schema 1 manifest has another one.
	Digest digest.Digest
}

// Owner is what has to be known of a record that owns items.
type Owner struct {
	ID string
	// Home and RunDir are its directories in the graph root, or in the other store that
	// the record was found in, and in the run root.
	Home, RunDir string
	Items        Index
	// ReadOnly is the error for a change of what another store owns; nil otherwise.
	ReadOnly error
}

// Owners are the records of one kind, R, as owners of items. What it does is the same for
// images and containers, which embed it, ReadTx and WriteTx.
type Owners[R any] struct {
	kind errdefs.Kind
	of   func(*R) Owner
}

// NewOwners describes owners. of tells of a record what has to be known, and its Items
// point into the record.
func NewOwners[R any](kind errdefs.Kind, of func(*R) Owner) Owners[R] { return Owners[R]{kind, of} }

// Home is the directory in the graph root, or the other store that the record is in, with
// its data items and what else belongs to it. It is missing while there is nothing of the
// kind.
func (o Owners[R]) Home(r R) string { return o.of(&r).Home }

// Directories are all that belongs to an owner: Home and the one in the run root.
func (o Owners[R]) Directories(r R) []string {
	owner := o.of(&r)
	return []string{owner.Home, owner.RunDir}
}

// ItemPath is the path of a data item's file. Whoever opens it without the lock may find
// another one, or none.
func (o Owners[R]) ItemPath(r R, key string) (string, error) {
	name, err := FileName(key)
	return filepath.Join(o.Home(r), name), err
}

func (o Owners[R]) wrap(owner Owner, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", o.kind, owner.ID, err)
}

// ReadTx reads items while the lock of their owners is held.
type ReadTx[R any] struct {
	Owners[R]
	lookup func(ref string) (R, error)
}

// NewReadTx is for the owners that lookup finds.
func NewReadTx[R any](o Owners[R], lookup func(ref string) (R, error)) ReadTx[R] {
	return ReadTx[R]{o, lookup}
}

func (tx ReadTx[R]) owner(ref string) (R, Owner, error) {
	r, err := tx.lookup(ref)
	return r, tx.of(&r), err
}

// BigData returns a data item; errdefs.ErrNotFound when its owner has none under the key.
func (tx ReadTx[R]) BigData(ref, key string) ([]byte, error) {
	_, owner, err := tx.owner(ref)
	if err != nil {
		return nil, err
	}
	data, err := Read(owner.Home, key)
	return data, tx.wrap(owner, err)
}

// BigDataSize returns the size of a data item in bytes, as recorded or, since records of
// old versions hold no sizes, as its file has it; errdefs.ErrNotFound when its owner has
// none under the key.
func (tx ReadTx[R]) BigDataSize(ref, key string) (int64, error) {
	_, owner, err := tx.owner(ref)
	if err != nil {
		return 0, err
	}
	size, known := (*owner.Items.Sizes)[key]
	if !known {
		size, err = Size(owner.Home, key)
	}
	return size, tx.wrap(owner, err)
}

// BigDataDigest returns the digest recorded for a data item; errdefs.ErrNotFound when
// there is none.
func (tx ReadTx[R]) BigDataDigest(ref, key string) (digest.Digest, error) {
	_, owner, err := tx.owner(ref)
	if err != nil {
		return "", err
	}
	d, known := (*owner.Items.Digests)[key]
	if !known {
		err = fmt.Errorf("digest of %w", errdefs.Missing{Kind: errdefs.DataItem, Ref: key})
	}
	return d, tx.wrap(owner, err)
}

// ItemSize is the size of a data item on disk in bytes; errdefs.ErrNotFound when it is
// missing, errdefs.ErrCorrupt when it is no file.
func (tx ReadTx[R]) ItemSize(r R, key string) (int64, error) { return Size(tx.Home(r), key) }

// Directory makes and returns the directory in the graph root that belongs to an owner's
// users; it goes with the owner.
func (tx ReadTx[R]) Directory(ref string) (string, error) {
	_, owner, err := tx.owner(ref)
	return userDirectory(owner.Home, err)
}

// RunDirectory is Directory in the run root, whose content goes at a reboot.
func (tx ReadTx[R]) RunDirectory(ref string) (string, error) {
	_, owner, err := tx.owner(ref)
	return userDirectory(owner.RunDir, err)
}

func userDirectory(home string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	above, name := beneathHome(home)
	return filepath.Join(home, "userdata"), openat.MakeDirs(above, filepath.Join(name, "userdata"))
}

// WriteTx changes items while the lock of their owners is held exclusively.
type WriteTx[R any] struct {
	read    ReadTx[R]
	settle  func(*R) error
	replace func(R) error
}

// NewWriteTx changes the items of the owners that read finds. settle puts right what a
// record tells of its items when one is entered, or refuses the item, and may be nil;
// replace saves a record.
func NewWriteTx[R any](read ReadTx[R], settle func(*R) error, replace func(R) error) WriteTx[R] {
	return WriteTx[R]{read, settle, replace}
}

// enter notes an item in its owner's record.
func (tx WriteTx[R]) enter(r *R, items ...Item) error {
	for _, item := range items {
		tx.read.of(r).Items.enter(item)
	}
	if tx.settle == nil {
		return nil
	}
	return tx.settle(r)
}

// SetBigData stores a data item, in place of one that has the same key. A key that no
// file can be named after is errdefs.ErrInvalid.
func (tx WriteTx[R]) SetBigData(ref string, item Item) error {
	r, owner, err := tx.read.owner(ref)
	if err != nil {
		return err
	}
	if owner.ReadOnly != nil {
		return owner.ReadOnly
	}
	if err := tx.enter(&r, item); err != nil {
		return err
	}
	if err := Write(owner.Home, item.Key, item.Data); err != nil {
		return tx.read.wrap(owner, err)
	}
	return tx.replace(r)
}

// Place writes the items of a new owner, enters them in its record and has that inserted:
// no record is ever there before its items. drawn tells that the ID was drawn at random
// just now, so that nothing can be there from an interrupted creation, which would become
// this owner's otherwise.
//
// An insert that fails has not happened: the items are removed again.
func (tx WriteTx[R]) Place(r *R, drawn bool, items []Item, insert func(R) error) (err error) {
	if err := tx.enter(r, items...); err != nil {
		return err
	}
	owner := tx.read.of(r)
	if !drawn {
		if err := os.RemoveAll(owner.Home); err != nil {
			return tx.read.wrap(owner, err)
		}
	}
	for _, item := range items {
		if err = Write(owner.Home, item.Key, item.Data); err != nil {
			break
		}
	}
	if err == nil {
		err = insert(*r)
	}
	if err != nil {
		return tx.read.wrap(owner, errors.Join(err, os.RemoveAll(owner.Home)))
	}
	return nil
}
