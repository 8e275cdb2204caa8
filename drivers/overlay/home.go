package overlay

import (
	"context"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/mount"
)

// PrepareHome makes the home a private mount point, so that layers mounted in it don't
// spread into the mount namespaces of containers, unless skip_mount_home says otherwise.
func (d *Driver) PrepareHome(ctx context.Context) (err error) {
	defer drivers.Describe(&err, Name)
	if d.opts.SkipMountHome {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err = mount.MakePrivate(d.homes.Own[0])
	d.homePrepared.Store(err == nil)
	return err
}

// HomePrepared asks the kernel once a process how mounts spread from the home, and each
// time whether it is still a mount point: any process that uses the store may take the
// mount away.
func (d *Driver) HomePrepared() (_ bool, err error) {
	defer drivers.Describe(&err, Name)
	if d.opts.SkipMountHome {
		return true, nil
	}
	if d.homePrepared.Load() {
		return mount.IsMountPoint(d.homes.Own[0])
	}
	private, err := mount.IsPrivate(d.homes.Own[0])
	d.homePrepared.Store(private && err == nil)
	return private, err
}

// ReleaseHome takes the home's mount away, if PrepareHome or containers/storage made it:
// a file system of the home's own stays. It is errdefs.ErrInUse while a layer is mounted.
func (d *Driver) ReleaseHome(ctx context.Context) (err error) {
	defer drivers.Describe(&err, Name)
	if d.opts.SkipMountHome {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d.homePrepared.Store(false)
	return mount.UndoPrivate(d.homes.Own[0])
}
