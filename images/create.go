package images

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/internal/ident"
	"github.com/shalestore/shale/internal/naming"
)

// WriteTx is a change of the images while nobody else looks or changes.
type WriteTx struct {
	ReadTx
	bigdata.WriteTx[Image]
	records *catalog.WriteTx[Image] // of the first catalog
	graph   *catalog.WriteTx[Image] // of the graph root's, where that is another
}

// Create makes an image and saves it. Its data items are on disk before the record that
// names them.
//
// It returns errdefs.ErrDuplicateID, errdefs.ErrDuplicateName, or errdefs.ErrInvalid for
// an ID or a digest that breaks its grammar. The layer is taken on trust.
//
// If a read-only store has an image with the ID, what opts don't say is taken over from
// there, and all its names and data items are.
func (tx *WriteTx) Create(opts Options) (Image, error) {
	opts, err := tx.inherit(opts)
	if err != nil {
		return Image{}, err
	}
	image := Image{
		ID:           opts.ID,
		Digest:       opts.Digest,
		Names:        naming.Dedupe(opts.Names),
		NamesHistory: slices.Clone(opts.NamesHistory),
		TopLayer:     opts.TopLayer,
		Metadata:     opts.Metadata,
		Created:      opts.Created,
		Flags:        maps.Clone(opts.Flags),
	}
	if image.ID == "" {
		image.ID = ident.New()
	}
	if image.Created.IsZero() {
		image.Created = time.Now().UTC()
	}
	if _, err := tx.own.CheckFree(image.ID, image.Names); err != nil {
		return Image{}, err
	}
	if err := tx.Place(&image, false, opts.BigData,
		func(image Image) error { return tx.records.Insert(image, 0) }); err != nil {
		return Image{}, err
	}
	if err := tx.records.Save(); err != nil {
		return Image{}, fmt.Errorf("image %s: %w", image.ID, err)
	}
	return image, nil
}

// Insert enters the record of an image whose data items are in place.
func (tx *WriteTx) Insert(image Image) error {
	if err := image.settleDigest(); err != nil {
		return err
	}
	return tx.records.Insert(image, 0)
}

// inherit completes opts from the image of a read-only store that has the ID, if there is
// one.
func (tx *WriteTx) inherit(opts Options) (Options, error) {
	if opts.ID == "" {
		return opts, nil
	}
	image, err := tx.Get(opts.ID)
	if errors.Is(err, errdefs.ErrNotFound) || err == nil && !image.ReadOnly {
		return opts, nil
	}
	if err != nil {
		return opts, err
	}
	pulled, err := tx.freeNames(image.Names)
	if err != nil {
		return opts, err
	}
	opts.Names = naming.Dedupe(append(slices.Clone(opts.Names), pulled...))
	opts.NamesHistory = append(slices.Clone(image.NamesHistory), opts.NamesHistory...)
	if opts.Metadata == "" {
		opts.Metadata = image.Metadata
	}
	if opts.Created.IsZero() {
		opts.Created = image.Created
	}
	if opts.Digest == "" {
		opts.Digest = image.Digest
	}
	flags := maps.Clone(image.Flags)
	if flags == nil {
		flags = map[string]any{}
	}
	maps.Copy(flags, opts.Flags)
	opts.Flags = flags
	var items []Item
	for _, key := range image.BigDataNames {
		if slices.ContainsFunc(opts.BigData, func(i Item) bool { return i.Key == key }) {
			continue
		}
		data, err := tx.BigData(image.ID, key)
		if err != nil {
			return opts, err
		}
		items = append(items, Item{Key: key, Data: data, Digest: image.BigDataDigests[key]})
	}
	opts.BigData = append(items, opts.BigData...)
	return opts, nil
}
