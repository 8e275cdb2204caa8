package graphdriver

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/examine"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/dedupe"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/directory"
)

// Exists reports whether there is a layer, sound or not.
func (d *driver[Cleanup, Staged]) Exists(id string) bool {
	_, err := d.own.Stat(context.Background(), id)
	return err == nil || !errors.Is(err, errdefs.ErrNotFound) && !errors.Is(err, errdefs.ErrInvalid)
}

// ListLayers lists the layers on disk, in no particular order: any of them may be removed
// first.
func (d *driver[Cleanup, Staged]) ListLayers() ([]string, error) {
	ids, err := d.own.List(context.Background())
	return ids, translate(err)
}

// Status describes the driver for people.
func (d *driver[Cleanup, Staged]) Status() [][2]string {
	var lines [][2]string
	for _, p := range d.own.Status(context.Background()) {
		lines = append(lines, [2]string{p.Name, p.Value})
	}
	return lines
}

// Metadata is what inspection of a container shows: LowerDir, UpperDir, WorkDir,
// MergedDir.
func (d *driver[Cleanup, Staged]) Metadata(id string) (map[string]string, error) {
	info, err := d.own.Stat(context.Background(), id)
	return info.Metadata, translate(err)
}

// ReadWriteDiskUsage counts what the layer itself holds, or has it counted by the file
// system.
func (d *driver[Cleanup, Staged]) ReadWriteDiskUsage(id string) (*directory.DiskUsage, error) {
	if limiter, ok := d.own.(drivers.Limiter); ok {
		if _, usage, err := limiter.Quota(context.Background(), id); err == nil {
			return &directory.DiskUsage{Size: usage.Bytes, InodeCount: usage.Inodes}, nil
		}
	}
	usage, err := d.own.Usage(context.Background(), id)
	if err != nil {
		return nil, translate(err)
	}
	return &directory.DiskUsage{Size: usage.Bytes, InodeCount: usage.Inodes}, nil
}

// Cleanup removes what dead processes have left of partial pulls, and makes the driver's
// home an ordinary directory again. A home in which something is still mounted, by
// whatever process, stays as it is.
func (d *driver[Cleanup, Staged]) Cleanup() error {
	ctx := context.Background()
	if err := examine.Of(d.own).SweepPulls(ctx); err != nil {
		return translate(err)
	}
	if homer, ok := d.own.(drivers.MountHome); ok {
		if err := homer.ReleaseHome(ctx); err != nil && !errors.Is(err, errdefs.ErrInUse) {
			return translate(err)
		}
	}
	return nil
}

// SyncMode asks the library to sync the file system before it calls a layer complete.
func (d *driver[Cleanup, Staged]) SyncMode() graphdriver.SyncMode {
	return graphdriver.SyncModeFilesystem
}

// AdditionalImageStores are the roots of the read-only stores whose layers may lie
// beneath those of this one.
func (d *driver[Cleanup, Staged]) AdditionalImageStores() []string { return d.others }

// Dedup has equal files of these layers share their blocks, and returns the bytes that
// they share then. Layers of other stores are left out.
func (d *driver[Cleanup, Staged]) Dedup(args graphdriver.DedupArgs) (graphdriver.DedupResult, error) {
	ctx := context.Background()
	var by dedupe.By
	switch args.Options.HashMethod { // the constants are internal to the library
	case 1:
		by = dedupe.CRC
	case 2:
		by = dedupe.Size
	case 3:
		by = dedupe.SHA256
	default:
		return graphdriver.DedupResult{}, fmt.Errorf("hash method %d: %w", args.Options.HashMethod, errdefs.ErrInvalid)
	}
	var dirs []string
	for _, id := range args.Layers {
		info, err := d.own.Stat(ctx, id)
		if errors.Is(err, errdefs.ErrNotFound) {
			continue
		}
		if err != nil {
			return graphdriver.DedupResult{}, translate(err)
		}
		if d.isOwn(info) {
			dirs = append(dirs, info.Content)
		}
	}
	shared, err := dedupe.Dirs(ctx, dirs, by)
	return graphdriver.DedupResult{Deduped: uint64(shared)}, translate(err)
}

// isOwn reports whether a layer lies in this store.
func (d *driver[Cleanup, Staged]) isOwn(info drivers.Info) bool {
	for _, home := range d.homes {
		if strings.HasPrefix(info.Content, home+"/") {
			return true
		}
	}
	return false
}
