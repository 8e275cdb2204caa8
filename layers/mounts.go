package layers

import (
	"context"

	"github.com/shalestore/shale/catalog"
)

// ForgottenMounts returns the IDs of layers that the table of mounts has, and that don't exist.
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
