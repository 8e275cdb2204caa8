package roots

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/lockfile"
	"golang.org/x/sys/unix"
)

// PrepareHome sees to it that the driver's home is a mount of its own before anything is
// put beneath. Other tools expect it from the first layer on, and a rename can't go from
// one mount to another, so it mustn't be made while a layer is staged.
func (r *Roots) PrepareHome(ctx context.Context) error {
	homer, ok := r.Driver.(drivers.MountHome)
	if !ok {
		return nil
	}
	if ready, err := homer.HomePrepared(); ready || err != nil {
		return err
	}
	lock, err := r.HoldHome(ctx, func() error { return nil })
	if err != nil {
		return err
	}
	return lock.Release()
}

// HoldHome returns storage.lock, under which the driver's home stays as it is: Shutdown,
// which every command of some tools ends with, takes the home's mount away while no layer
// is recorded as mounted, and with it what is being mounted there at that moment. A home
// that isn't prepared is prepared first, unless useful says that there is no use in it.
func (r *Roots) HoldHome(ctx context.Context, useful func() error) (*lockfile.Lock, error) {
	lock, err := lockfile.Acquire(ctx, r.StorageLock(), lockfile.Shared)
	if err != nil {
		return nil, err
	}
	homer, ok := r.Driver.(drivers.MountHome)
	if !ok {
		return lock, nil
	}
	ready, err := homer.HomePrepared()
	if err == nil && !ready {
		lock.Release()
		if err := useful(); err != nil {
			return nil, err
		}
		lock, err = lockfile.Acquire(ctx, r.StorageLock(), lockfile.Exclusive)
		if errors.Is(err, unix.EROFS) { // nobody puts anything beneath, and Shutdown has nothing to take away
			return lockfile.Acquire(ctx, r.StorageLock(), lockfile.Shared)
		}
		if err != nil {
			return nil, err
		}
		err = homer.PrepareHome(ctx)
	}
	if err != nil {
		lock.Release()
		return nil, err
	}
	return lock, nil
}

// StorageLock guards the driver's home. containers/storage holds it for much more, and so
// it is held here as briefly as can be.
func (r *Roots) StorageLock() string { return filepath.Join(r.Config.GraphRoot, "storage.lock") }

// LockUserns takes the lock under which containers with maps are recorded.
func (r *Roots) LockUserns(ctx context.Context) (*lockfile.Lock, error) {
	return lockfile.Acquire(ctx, filepath.Join(r.Config.GraphRoot, "userns.lock"), lockfile.Exclusive)
}
