package graphdriver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shalestore/shale/config/storageconf"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	shaleids "github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/mount"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/idtools"
)

// Create makes an empty layer for an image. One with storage options is made as for a
// container: the library never asks for that, its DriverTestSetQuota does.
func (d *driver[Cleanup, Staged]) Create(id, parent string, opts *graphdriver.CreateOpts) error {
	return d.create(id, parent, opts, false)
}

// CreateReadWrite makes an empty layer for a container.
func (d *driver[Cleanup, Staged]) CreateReadWrite(id, parent string, opts *graphdriver.CreateOpts) error {
	return d.create(id, parent, opts, true)
}

// readLimits reads the storage options of a layer: size and inodes.
func readLimits(limits *drivers.Limits, options map[string]string) error {
	for key, value := range options {
		var n uint64
		var err error
		switch strings.ToLower(key) {
		case "size":
			n, err = storageconf.ParseSize(value)
			limits.Bytes = &n
		case "inodes":
			if n, err = strconv.ParseUint(value, 10, 64); err != nil {
				err = fmt.Errorf("%w: %q is not a whole number", errdefs.ErrInvalid, value)
			}
			limits.Inodes = &n
		default:
			err = fmt.Errorf("%w: there is none of that name", errdefs.ErrInvalid)
		}
		if err != nil {
			return fmt.Errorf("storage option %s: %w", key, err)
		}
	}
	return nil
}

// CreateFromTemplate makes a layer on top of template, which shows the same; what
// UpdateLayerIDMap then changes in it doesn't touch the template.
func (d *driver[Cleanup, Staged]) CreateFromTemplate(id, template string, _ *idtools.IDMappings, _ string,
	_ *idtools.IDMappings, opts *graphdriver.CreateOpts, readWrite bool) error {
	return d.create(id, template, opts, readWrite)
}

// create isn't followed by a sync of its own: as SyncMode asks, the library makes one
// before it calls the layer complete.
func (d *driver[Cleanup, Staged]) create(id, parent string, opts *graphdriver.CreateOpts, writable bool) error {
	writable = writable || opts != nil && len(opts.StorageOpt) > 0
	stage := drivers.StageOptions{Writable: writable}
	if writable {
		stage.Limits = &drivers.Limits{}
	}
	if opts != nil {
		if err := readLimits(stage.Limits, opts.StorageOpt); err != nil {
			return fmt.Errorf("layer %s: %w", id, translate(err))
		}
		stage.IDMap = mapping(opts.IDMappings)
	}
	ctx := context.Background()
	staged, err := d.own.Stage(ctx, parent, stage)
	if err != nil {
		return translate(err)
	}
	if err := staged.Commit(ctx, id); err != nil {
		return translate(errors.Join(err, staged.Discard()))
	}
	return staged.Discard()
}

// UpdateLayerIDMap gives the layer a copy of everything beneath it with other owners. The
// copy is made aside and takes the layer's place as a whole, so this is for layers that
// nothing lies on yet, as the library promises.
func (d *driver[Cleanup, Staged]) UpdateLayerIDMap(id string, toContainer, toHost *idtools.IDMappings, _ string) error {
	ctx := context.Background()
	info, err := d.own.Stat(ctx, id)
	if err != nil {
		return translate(err)
	}
	staged, err := d.own.Stage(ctx, info.Parent, drivers.StageOptions{
		Writable: d.writable(info), IDMap: mapping(toHost), Content: id, Replaces: id,
	})
	if err != nil {
		return translate(err)
	}
	if err = staged.Remap(ctx, mapping(toContainer), mapping(toHost)); err == nil {
		err = staged.Commit(ctx, id)
	}
	return translate(errors.Join(err, staged.Discard()))
}

// writable reports whether a layer lies where those of containers do. Without an image
// store that is everywhere.
func (d *driver[Cleanup, Staged]) writable(info drivers.Info) bool {
	return strings.HasPrefix(info.Content, d.homes[0]+"/")
}

// SupportsShifting reports whether Get can translate owners by these maps.
func (d *driver[Cleanup, Staged]) SupportsShifting(uidmap, gidmap []idtools.IDMap) bool {
	shifter, ok := d.own.(drivers.Shifter)
	if !ok {
		return false
	}
	shifts, err := shifter.SupportsShifting(context.Background(), mappingOf(uidmap, gidmap))
	return shifts && err == nil
}

// Remove deletes a layer at once. A layer that doesn't exist is no error.
func (d *driver[Cleanup, Staged]) Remove(id string) error {
	cleanup, err := d.DeferredRemove(id)
	if cleanup != nil {
		err = errors.Join(err, cleanup())
	}
	return err
}

// DeferredRemove moves a layer out of sight, and returns what removes its files.
func (d *driver[Cleanup, Staged]) DeferredRemove(id string) (Cleanup, error) {
	ctx := context.Background()
	if err := d.unmountForRemoval(ctx, id); err != nil {
		return nil, translate(err)
	}
	trash, err := d.own.Delete(ctx, id)
	if trash == nil {
		return nil, translate(err)
	}
	return func() error { return trash.Empty(context.Background()) }, translate(err)
}

// unmountForRemoval takes away a mount that nobody has put back.
func (d *driver[Cleanup, Staged]) unmountForRemoval(ctx context.Context, id string) error {
	info, err := d.own.Stat(ctx, id)
	if err != nil || info.MountPoint == info.Content {
		return nil // what is damaged or gone isn't mounted by us
	}
	d.mounts.forget(id)
	mounted, err := mount.IsMountPoint(info.MountPoint)
	if err != nil || !mounted {
		return err
	}
	return mount.Unmount(info.MountPoint)
}

// GetTempDirRootDirs are the directories in which layers are made and deleted. The
// library recovers what dead processes left there, by the same protocol as we do.
func (d *driver[Cleanup, Staged]) GetTempDirRootDirs() []string {
	var dirs []string
	for _, home := range d.homes {
		dirs = append(dirs, filepath.Join(home, "tempdirs"))
	}
	return dirs
}

// mapping is the library's mapping as ours. None at all is the identity on both sides.
func mapping(m *idtools.IDMappings) shaleids.Mapping {
	if m == nil {
		return shaleids.Mapping{}
	}
	return mappingOf(m.UIDs(), m.GIDs())
}

func mappingOf(uids, gids []idtools.IDMap) shaleids.Mapping {
	convert := func(theirs []idtools.IDMap) []shaleids.Map {
		var ours []shaleids.Map
		for _, m := range theirs {
			ours = append(ours, shaleids.Map{ContainerID: m.ContainerID, HostID: m.HostID, Size: m.Size})
		}
		return ours
	}
	return shaleids.Mapping{UIDs: convert(uids), GIDs: convert(gids)}
}
