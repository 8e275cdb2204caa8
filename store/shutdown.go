package store

import (
	"context"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/layers"
)

// Shutdown ends what the store has set up outside its directories: the mounts of layers
// with force, and the private mount of the driver's home. It returns the layers that were
// mounted; without force, any is errdefs.ErrInUse and nothing is done. The store can be
// used again.
func (s *Store) Shutdown(ctx context.Context, force bool) (mounted []string, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	lock, err := lockfile.Acquire(ctx, r.StorageLock(), lockfile.Exclusive)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	err = r.Layers.Update(ctx, func(tx *layers.WriteTx) error {
		all, err := tx.MountedLayers(ctx)
		if err != nil {
			return err
		}
		for _, m := range all {
			mounted = append(mounted, m.ID)
		}
		if len(mounted) > 0 && !force {
			return errdefs.InUse{Kind: errdefs.Layer, ID: mounted[0], By: errdefs.Mount, ByID: mounted[0]}
		}
		return tx.UnmountAll(ctx, mounted...)
	})
	if err != nil {
		return mounted, err
	}
	// Others that have the store open learn by the token that the home has to be prepared
	// again.
	if _, err := lock.Touch(); err != nil {
		return mounted, err
	}
	if err := s.Wait(ctx); err != nil { // it works beneath the home
		return mounted, err
	}
	if homer, ok := r.Driver.(drivers.MountHome); ok {
		return mounted, homer.ReleaseHome(ctx)
	}
	return mounted, nil
}
