package containers

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/internal/ident"
	"github.com/shalestore/shale/internal/naming"
)

// WriteTx is a change of the containers while nobody else looks or changes.
type WriteTx struct {
	ReadTx
	bigdata.WriteTx[Container]
	records *catalog.WriteTx[Container]
}

// CheckFree reports whether a container with this ID and these names could be created:
// errdefs.ErrDuplicateID, errdefs.ErrDuplicateName, or errdefs.ErrInvalid for an ID that
// breaks the grammar. An empty ID is always free.
func (tx *ReadTx) CheckFree(id string, names []string) error {
	_, err := tx.own.CheckFree(id, names)
	return err
}

// Add makes a container's record. Its data items are on disk before the caller saves the
// record that names them. Errors are those of CheckFree; maps with overlapping ranges are
// errdefs.ErrInvalid. Image and layer are taken on trust.
func (tx *WriteTx) Add(opts Options) (Container, error) {
	if err := tx.CheckFree(opts.ID, opts.Names); err != nil {
		return Container{}, err
	}
	if err := opts.IDMap.Validate(); err != nil {
		return Container{}, fmt.Errorf("container: %w", err)
	}
	c := Container{
		ID:       opts.ID,
		Names:    naming.Dedupe(opts.Names),
		ImageID:  opts.ImageID,
		LayerID:  opts.LayerID,
		Metadata: opts.Metadata,
		Created:  time.Now().UTC(),
		UIDMap:   opts.IDMap.UIDs,
		GIDMap:   opts.IDMap.GIDs,
		Flags:    map[string]any{},
	}
	maps.Copy(c.Flags, opts.Flags)
	if c.ID == "" {
		c.ID = ident.New()
	}
	if opts.MountOpts != nil {
		c.Flags[FlagMountOpts] = slices.Clone(opts.MountOpts)
	}
	file := stableFile
	if opts.Volatile || tx.store.cfg.Transient {
		c.Flags[FlagVolatile] = true
		file = volatileFile
	}
	insert := func(c Container) error { return tx.records.Insert(c, file) }
	if err := tx.Place(&c, opts.ID == "", opts.BigData, insert); err != nil {
		return Container{}, err
	}
	return c, nil
}

// Insert enters the record of a container whose data items are in place.
func (tx *WriteTx) Insert(c Container) error { return tx.records.Insert(c, stableFile) }

// Records are the changes of this transaction, to be saved together with others.
func (tx *WriteTx) Records() catalog.Changes { return tx.records }
