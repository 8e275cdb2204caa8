package catalog

import (
	"context"
	"errors"

	"github.com/shalestore/shale/errdefs"
)

// Mountpoint says where a layer is mounted, and for how many users. It is a record of
// mountpoints.json.
type Mountpoint struct {
	ID    string `json:"id"`
	Path  string `json:"path"` // absolute
	Count int    `json:"count"`
}

// Mountpoints is the table of mounts that all processes on a store share. It lives in the
// run root, which does not survive a reboot, so it is never synced. Its lock is taken
// only while the lock of the layers is held.
type Mountpoints struct {
	table *Catalog[Mountpoint]
}

// NewMountpoints describes the table in the file at path. It does no I/O.
func NewMountpoints(lock, path string) *Mountpoints {
	return &Mountpoints{New(Schema[Mountpoint]{
		Kind:       "mount of layer",
		TokenTells: true,
		ID:         func(m *Mountpoint) string { return m.ID },
		Hidden:     func(m *Mountpoint) bool { return m.Count <= 0 || m.Path == "" },
	}, lock, File{Path: path, Volatile: true})}
}

// MountsTx reads the table while its lock is held.
type MountsTx struct{ *ReadTx[Mountpoint] }

// MountsWriteTx changes the table while its lock is held exclusively.
type MountsWriteTx struct {
	MountsTx
	tx *WriteTx[Mountpoint]
}

// View runs fn with the lock shared, like Catalog.View.
func (m *Mountpoints) View(ctx context.Context, fn func(tx *MountsTx) error) error {
	return m.table.View(ctx, func(tx *ReadTx[Mountpoint]) error { return fn(&MountsTx{tx}) })
}

// Update runs fn with the lock exclusive and saves what it changed, like Catalog.Update.
func (m *Mountpoints) Update(ctx context.Context, fn func(tx *MountsWriteTx) error) error {
	return m.table.Update(ctx, func(tx *WriteTx[Mountpoint]) error {
		if err := fn(&MountsWriteTx{MountsTx{&tx.ReadTx}, tx}); err != nil || !tx.unsaved() {
			return err
		}
		unmounted, err := tx.Hidden() // a table that is written has only what is mounted
		for _, m := range unmounted {
			err = errors.Join(err, tx.Remove(m.ID))
		}
		return err
	})
}

// Salvage keeps what can be read of a damaged table, like Catalog.Salvage.
func (m *Mountpoints) Salvage(ctx context.Context) ([]Salvaged, error) { return m.table.Salvage(ctx) }

// Get returns where the layer is mounted. For a layer that is not mounted it returns a
// Mountpoint with only the ID set.
func (t MountsTx) Get(id string) (Mountpoint, error) {
	m, err := t.ReadTx.Get(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return Mountpoint{ID: id}, nil
	}
	return m, err
}

// Save writes what was changed so far, before the transaction ends.
func (t MountsWriteTx) Save() error { return t.tx.Save() }

// Set enters a mount, in place of what the table says of that layer so far. A count of 0
// or an empty path takes it out.
func (t MountsWriteTx) Set(m Mountpoint) error {
	_, err := t.tx.FileOf(m.ID)
	known := err == nil
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	switch {
	case m.Count > 0 && m.Path != "" && known:
		return t.tx.Replace(m)
	case m.Count > 0 && m.Path != "":
		return t.tx.Insert(m, 0)
	case known:
		return t.tx.Remove(m.ID)
	}
	return nil
}
