package overlay

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/mount"
)

// PrepareHome makes the home a private mount point, so that layers mounted in it don't
// spread into the mount namespaces of containers, unless skip_mount_home says otherwise.
func (d *Driver) PrepareHome(ctx context.Context) error {
	if d.opts.SkipMountHome {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := mount.MakePrivate(d.homes[0]); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	d.homePrepared.Store(true)
	return nil
}

// HomePrepared asks the kernel once a process how mounts spread from the home, and each
// time whether it is still a mount point: any process that uses the store may take the
// mount away.
func (d *Driver) HomePrepared() (bool, error) {
	if d.opts.SkipMountHome {
		return true, nil
	}
	if d.homePrepared.Load() {
		is, err := mount.IsMountPoint(d.homes[0])
		if err != nil {
			return false, fmt.Errorf("overlay: %w", err)
		}
		return is, nil
	}
	private, err := mount.IsPrivate(d.homes[0])
	if err != nil {
		return false, fmt.Errorf("overlay: %w", err)
	}
	d.homePrepared.Store(private)
	return private, nil
}

// ReleaseHome takes the home's mount away, if PrepareHome or containers/storage made it:
// a file system of the home's own stays. It is errdefs.ErrInUse while a layer is mounted.
func (d *Driver) ReleaseHome(ctx context.Context) error {
	if d.opts.SkipMountHome {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d.homePrepared.Store(false)
	if err := mount.UndoPrivate(d.homes[0]); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	return nil
}
