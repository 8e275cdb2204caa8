package layers

import (
	"context"

	"github.com/shalestore/shale/catalog"
)

// ForgottenMounts returns the IDs of layers that the table of mounts has, and that don't
// exist.
func (tx *ReadTx) ForgottenMounts(ctx context.Context) ([]string, error) {
	known, err := tx.known()
	if err != nil {
		return nil, err
	}
	var forgotten []string
	err = tx.store.mounts.View(ctx, func(mounts *catalog.MountsTx) error {
		all, err := mounts.All()
		for _, m := range all {
			if !known[m.ID] {
				forgotten = append(forgotten, m.ID)
			}
		}
		return err
	})
	return forgotten, err
}

// ForgetMounts takes layers out of the table of mounts.
func (tx *WriteTx) ForgetMounts(ctx context.Context, ids []string) error {
	return tx.store.mounts.Update(ctx, func(mounts *catalog.MountsWriteTx) error {
		for _, id := range ids {
			if err := mounts.Set(catalog.Mountpoint{ID: id}); err != nil {
				return err
			}
		}
		return nil
	})
}

// CheckMounts returns errdefs.ErrCorrupt if the table of mounts can't be read.
func (s *Store) CheckMounts(ctx context.Context) error {
	return s.records.View(ctx, func(*catalog.ReadTx[Layer]) error {
		return s.mounts.View(ctx, func(mounts *catalog.MountsTx) error {
			_, err := mounts.All()
			return err
		})
	})
}

// SalvageMounts keeps of the table of mounts what can be read.
func (s *Store) SalvageMounts(ctx context.Context) (saved []catalog.Salvaged, err error) {
	err = s.records.View(ctx, func(*catalog.ReadTx[Layer]) error {
		saved, err = s.mounts.Salvage(ctx)
		return err
	})
	return saved, err
}
