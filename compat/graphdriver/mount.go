package graphdriver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/mount"
	graphdriver "go.podman.io/storage/drivers"
)

// Get mounts a layer, or counts one user more if this process has mounted it already or
// finds it mounted, and returns where. The options matter only for the first.
func (d *driver[Cleanup, Staged]) Get(id string, options graphdriver.MountOpts) (string, error) {
	ctx := context.Background()
	info, err := d.own.Stat(ctx, id)
	if err != nil {
		return "", translate(err)
	}
	opts := drivers.MountOptions{Options: options.Options, Label: options.MountLabel, Volatile: options.Volatile}
	if len(options.UidMaps)+len(options.GidMaps) > 0 && d.SupportsShifting(options.UidMaps, options.GidMaps) {
		opts.IDMap = mappingOf(options.UidMaps, options.GidMaps)
	}
	// "ro" gives a mount without upper directory, rather than one that can't be written
	// to for the time being.
	opts.ReadOnly = slices.Contains(options.Options, "ro")
	if info.MountPoint == info.Content {
		_, err := d.own.Mounts(ctx, id, opts) // refuses options
		return info.MountPoint, translate(err)
	}
	err = d.mounts.add(id, info.MountPoint, func() error { return d.mount(ctx, id, info, opts) })
	if err != nil {
		return "", fmt.Errorf("layer %s: mount: %w", id, translate(err))
	}
	return info.MountPoint, nil
}

func (d *driver[Cleanup, Staged]) mount(ctx context.Context, id string, info drivers.Info,
	opts drivers.MountOptions) error {
	specs, err := d.own.Mounts(ctx, id, opts)
	if err != nil {
		return err
	}
	// The mount of a mount program that has died serves nobody.
	for mount.IsDead(info.MountPoint) {
		if err := mount.Unmount(info.MountPoint); err != nil {
			return err
		}
	}
	for _, spec := range specs {
		if err := mount.Perform(ctx, spec); err != nil {
			return errors.Join(err, d.unmount(ctx, id, info))
		}
	}
	return nil
}

func (d *driver[Cleanup, Staged]) unmount(ctx context.Context, id string, info drivers.Info) error {
	if err := mount.Unmount(info.MountPoint); err != nil {
		return err
	}
	if tidy, ok := d.own.(drivers.MountHome); ok {
		return tidy.Unmounted(ctx, id)
	}
	return nil
}

// Put takes one user off a layer, and unmounts it when that was the last one.
func (d *driver[Cleanup, Staged]) Put(id string) error {
	ctx := context.Background()
	info, err := d.own.Stat(ctx, id)
	if err != nil {
		return translate(err)
	}
	if info.MountPoint == info.Content {
		return nil
	}
	err = d.mounts.remove(id, info.MountPoint, func() error { return d.unmount(ctx, id, info) })
	if err != nil {
		return fmt.Errorf("layer %s: unmount: %w", id, translate(err))
	}
	return nil
}

// mountCounts tells how many users each mount has in this process. The counts that last
// are the library's, in mountpoints.json; these keep its nested uses of one layer, a diff
// of what is mounted for instance, from ending each other's mount.
//
// A mount that was there before this process first asked has one user already, whom the
// library knows. A mount that went behind our back has none.
type mountCounts struct {
	mu     sync.Mutex
	counts map[string]*mountCount
}

type mountCount struct {
	mu    sync.Mutex // held while the mount changes, so that nobody uses what isn't there yet
	asked bool
	users int
}

// look returns the count of a layer, locked.
func (c *mountCounts) look(id, path string) (*mountCount, error) {
	c.mu.Lock()
	if c.counts == nil {
		c.counts = map[string]*mountCount{}
	}
	count := c.counts[id]
	if count == nil {
		count = &mountCount{}
		c.counts[id] = count
	}
	c.mu.Unlock()

	count.mu.Lock()
	mounted, err := mount.IsMountPoint(path)
	switch {
	case err != nil:
		count.mu.Unlock()
		return nil, err
	case !mounted || mount.IsDead(path):
		count.users = 0
	case !count.asked:
		count.users = 1
	}
	count.asked = true
	return count, nil
}

// add counts a user, after begin if it is the first.
func (c *mountCounts) add(id, path string, begin func() error) error {
	count, err := c.look(id, path)
	if err != nil {
		return err
	}
	defer count.mu.Unlock()
	if count.users == 0 {
		if err := begin(); err != nil {
			return err
		}
	}
	count.users++
	return nil
}

// remove takes off a user, and calls end if it was the last. Without any user it calls
// end as well, to tidy up after a mount that has gone.
func (c *mountCounts) remove(id, path string, end func() error) error {
	count, err := c.look(id, path)
	if err != nil {
		return err
	}
	defer count.mu.Unlock()
	if count.users > 1 {
		count.users--
		return nil
	}
	if err := end(); err != nil {
		return err
	}
	count.users, count.asked = 0, false
	return nil
}

// forget drops the count of a layer that goes.
func (c *mountCounts) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.counts, id)
}
