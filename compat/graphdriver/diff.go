package graphdriver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/mount"
	graphdriver "go.podman.io/storage/drivers"
	theirs "go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/pkg/idtools"
)

// Diff writes the uncompressed tar that makes the layer out of parent, "" for all of it.
// Closing the stream early ends the work.
func (d *driver[Cleanup, Staged]) Diff(id string, ids *idtools.IDMappings, parent string, parentIDs *idtools.IDMappings,
	mountLabel string) (io.ReadCloser, error) {
	c, err := d.comparison(id, ids, parent, parentIDs, mountLabel)
	if err != nil {
		return nil, translate(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := c.WriteTar(ctx, w)
		if err != nil {
			err = fmt.Errorf("layer %s: diff: %w", id, translate(err))
		}
		w.CloseWithError(err)
	}()
	return diffStream{r, func() { cancel(); <-done }}, nil
}

// diffStream is a pipe whose writer is gone once Close returns, and with it the mounts
// that it read.
type diffStream struct {
	*io.PipeReader
	stop func()
}

func (s diffStream) Close() error {
	err := s.PipeReader.Close()
	s.stop()
	return err
}

// Changes lists what the layer has changed against parent.
func (d *driver[Cleanup, Staged]) Changes(id string, ids *idtools.IDMappings, parent string,
	parentIDs *idtools.IDMappings, mountLabel string) ([]theirs.Change, error) {
	c, err := d.comparison(id, ids, parent, parentIDs, mountLabel)
	if err != nil {
		return nil, translate(err)
	}
	changes, err := c.Changes(context.Background())
	if err != nil {
		return nil, fmt.Errorf("layer %s: changes: %w", id, translate(err))
	}
	list := make([]theirs.Change, len(changes))
	for i, change := range changes {
		list[i] = theirs.Change{Path: change.Path, Kind: theirs.ChangeType(change.Kind)} // numbered alike
	}
	return list, nil
}

// DiffSize estimates in bytes what Diff writes.
func (d *driver[Cleanup, Staged]) DiffSize(id string, ids *idtools.IDMappings, parent string,
	parentIDs *idtools.IDMappings, mountLabel string) (int64, error) {
	c, err := d.comparison(id, ids, parent, parentIDs, mountLabel)
	if err != nil {
		return 0, translate(err)
	}
	size, err := c.Size(context.Background())
	if err != nil {
		return 0, fmt.Errorf("layer %s: diff size: %w", id, translate(err))
	}
	return size, nil
}

// comparison is what Shale's own store would make of two layers. The library's records,
// which tell the mappings, come as arguments.
func (d *driver[Cleanup, Staged]) comparison(id string, ids *idtools.IDMappings, parent string,
	parentIDs *idtools.IDMappings, mountLabel string) (layers.Comparison, error) {
	ctx := context.Background()
	c := layers.Comparison{
		Driver: d.own, To: id, From: parent,
		MountTo:   drivers.MountOptions{Label: mountLabel},
		MountFrom: drivers.MountOptions{Label: mountLabel},
		Options: diff.Options{
			IDMap:        mapping(ids),
			OldIDMap:     mapping(parentIDs),
			OverrideStat: d.apply.ForceMask != nil,
		},
		Temp: d.GetTempDirRootDirs()[0],
	}
	var err error
	if c.Info, err = d.own.Stat(ctx, id); err != nil {
		return c, err
	}
	// A container whose owners are translated while it is mounted lies on layers that
	// aren't: they appear with its owners if they are mounted with its mapping.
	own := c.Options.IDMap
	if !own.IsIdentity() && c.Options.OldIDMap.IsIdentity() && c.Info.Parent != "" && !c.Info.Remapped &&
		d.SupportsShifting(ids.UIDs(), ids.GIDs()) {
		c.MountTo.IDMap = own
	}
	return c, nil
}

// ApplyDiff unpacks a tar onto what the layer has, and returns the size of its content in
// bytes.
//
// A layer that is mounted is unpacked into through its mount, as what lies beneath one
// must not change otherwise. Elsewhere a copy of the content is unpacked into, aside, and
// takes the content's place: the layer is always wholly the old one or wholly the new
// one.
func (d *driver[Cleanup, Staged]) ApplyDiff(id string, options graphdriver.ApplyDiffOpts) (int64, error) {
	size, err := d.applyDiff(context.Background(), id, options)
	if err != nil {
		return 0, fmt.Errorf("layer %s: apply: %w", id, translate(err))
	}
	return size, nil
}

func (d *driver[Cleanup, Staged]) applyDiff(ctx context.Context, id string, options graphdriver.ApplyDiffOpts) (
	int64, error) {
	info, err := d.own.Stat(ctx, id)
	if err != nil {
		return 0, err
	}
	if info.MountPoint != info.Content {
		mounted, err := mount.IsMountPoint(info.MountPoint)
		if err != nil {
			return 0, err
		}
		if mounted {
			opts := d.applyOptions(options)
			opts.Whiteouts = archive.RemoveWhiteouts
			result, err := unpack(ctx, info.MountPoint, options.Diff, opts)
			return d.sizeOf(ctx, id, result), err
		}
	}
	staged, err := d.own.Stage(ctx, info.Parent, drivers.StageOptions{
		Writable: d.writable(info), IDMap: mapping(options.Mappings), Content: id, Replaces: id,
	})
	if err != nil {
		return 0, err
	}
	opts := d.applyOptions(options)
	result, err := unpack(ctx, staged.Content(), options.Diff, opts)
	if err == nil {
		err = apply.Settle(ctx, staged.Content(), info.Lower, opts.Whiteouts, result)
	}
	if err == nil {
		err = replace(ctx, staged, id)
	}
	return d.sizeOf(ctx, id, result), errors.Join(err, staged.Discard())
}

func replace(ctx context.Context, staged drivers.Staged, id string) error {
	trash, err := staged.Replace(ctx, id)
	if trash != nil {
		err = errors.Join(err, trash.Empty(ctx))
	}
	return err
}

func unpack(ctx context.Context, dir string, r io.Reader, opts apply.Options) (apply.Result, error) {
	if r == nil {
		return apply.Result{}, errors.New("there is no tar to unpack")
	}
	return apply.Tar(ctx, dir, r, nil, opts)
}

func (d *driver[Cleanup, Staged]) applyOptions(options graphdriver.ApplyDiffOpts) apply.Options {
	opts := d.apply
	opts.IDMap = mapping(options.Mappings)
	opts.IgnoreChownErrors = opts.IgnoreChownErrors || options.IgnoreChownErrors
	if options.ForceMask != nil {
		opts.ForceMask = options.ForceMask
	}
	return opts
}

// sizeOf is what the library records as the size of a layer's content: everything in the
// layer's directory, where that is the layer's alone, and else what was unpacked.
func (d *driver[Cleanup, Staged]) sizeOf(ctx context.Context, id string, result apply.Result) int64 {
	if _, ok := d.own.(drivers.Upperdir); ok {
		if usage, err := d.own.Usage(ctx, id); err == nil {
			return usage.Bytes
		}
	}
	return result.ContentSize
}

// StartStagingDiffToApply unpacks a tar for a layer that will lie on parent, while nobody
// holds a lock.
func (d *driver[Cleanup, Staged]) StartStagingDiffToApply(parent string, options graphdriver.ApplyDiffOpts) (Cleanup,
	*Staged, int64, error) {
	ctx := context.Background()
	staged, err := d.own.Stage(ctx, parent, drivers.StageOptions{IDMap: mapping(options.Mappings)})
	if err != nil {
		return nil, nil, -1, translate(err)
	}
	path := staged.Content()
	cleanup := func() error {
		d.mu.Lock()
		delete(d.staged, path)
		d.mu.Unlock()
		return staged.Discard()
	}
	result, err := unpack(ctx, path, options.Diff, d.applyOptions(options))
	if err != nil {
		return cleanup, nil, -1, fmt.Errorf("unpack a layer: %w", translate(err))
	}
	d.mu.Lock()
	d.staged[path] = staged
	d.mu.Unlock()
	return cleanup, &Staged{Path: path}, result.ContentSize, nil
}

// CommitStagedLayer gives what was unpacked to a layer that Create has made. The library
// holds its layer lock.
func (d *driver[Cleanup, Staged]) CommitStagedLayer(id string, addition *Staged) error {
	path := struct{ Path string }(*addition).Path
	d.mu.Lock()
	staged := d.staged[path]
	delete(d.staged, path)
	d.mu.Unlock()
	if staged == nil {
		return fmt.Errorf("layer %s: nothing was staged in %s", id, filepath.Clean(path))
	}
	if err := replace(context.Background(), staged, id); err != nil {
		return fmt.Errorf("layer %s: %w", id, translate(err))
	}
	return nil
}
