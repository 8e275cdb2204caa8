package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/tempdir"
	"github.com/shalestore/shale/mount"
)

// Comparison tells what one layer changes against another by what the driver keeps of
// them. It knows no records and takes no locks: whoever makes one sees to it that the
// layers stay, or looks afterwards whether they did.
//
// Where To lies directly on From, and the driver's directory of To alone tells
// everything, that is all that is read. Elsewhere both are mounted aside and compared
// file by file.
type Comparison struct {
	Driver drivers.Driver
	// To is the layer, From what it is compared with; "" means nothing, so that
	// everything in To is new.
	To, From string
	// Info is the driver's Stat of To.
	Info drivers.Info
	// MountTo and MountFrom are how the layers are mounted where that is necessary.
	// ReadOnly needn't be set.
	MountTo, MountFrom drivers.MountOptions
	// Options translates what is on disk.
	Options diff.Options
	// Temp is a directory of temporary directories, in which mounts are made. Any program
	// that recovers it unmounts and removes what a kill has left.
	Temp string
}

// WriteTar writes the uncompressed tar that makes To out of From.
func (c Comparison) WriteTar(ctx context.Context, w io.Writer) error {
	upper, native, err := c.upperdir(ctx)
	if err != nil {
		return err
	}
	if native {
		err := diff.WriteOverlay(ctx, w, c.Info.Content, c.Info.Lower, upper.UserXattr(), c.Options)
		if !errors.Is(err, errdefs.ErrUnsupported) {
			return err
		}
		// Nothing is written yet. The layer was mounted with metacopy or redirect_dir
		// once, so its directory doesn't tell everything.
	}
	return c.inTrees(ctx, func(toDir, fromDir string) error {
		if upper != nil {
			return diff.WriteMerged(ctx, w, diff.MergedLayer{Upper: c.Info.Content, Merged: toDir,
				Parent: fromDir}, c.Options)
		}
		return diff.WriteTree(ctx, w, toDir, fromDir, c.Options)
	})
}

// Changes lists what To has that From hasn't, and the other way round.
func (c Comparison) Changes(ctx context.Context) ([]diff.Change, error) {
	upper, native, err := c.upperdir(ctx)
	if err != nil {
		return nil, err
	}
	if native {
		changes, err := diff.OverlayChanges(ctx, c.Info.Content, c.Info.Lower, upper.UserXattr())
		if !errors.Is(err, errdefs.ErrUnsupported) {
			return changes, err
		}
	}
	var changes []diff.Change
	err = c.inTrees(ctx, func(toDir, fromDir string) error {
		var err error
		changes, err = c.changesIn(ctx, upper, toDir, fromDir)
		return err
	})
	return changes, err
}

// Size estimates in bytes what WriteTar would write: the sizes of the files added or
// changed.
func (c Comparison) Size(ctx context.Context) (int64, error) {
	upper, native, err := c.upperdir(ctx)
	if err != nil {
		return 0, err
	}
	if native {
		// The directory holds all that has changed, unless it was mounted with metacopy
		// or redirect_dir once.
		_, err := diff.OverlayChanges(ctx, c.Info.Content, c.Info.Lower, upper.UserXattr())
		if err == nil {
			usage, err := c.Driver.Usage(ctx, c.To)
			return usage.Bytes, err
		}
		if !errors.Is(err, errdefs.ErrUnsupported) {
			return 0, err
		}
	}
	var size int64
	err = c.inTrees(ctx, func(toDir, fromDir string) error {
		changes, err := c.changesIn(ctx, upper, toDir, fromDir)
		if err != nil {
			return err
		}
		size, err = changedBytes(toDir, changes)
		return err
	})
	return size, err
}

// changesIn compares mounted layers.
func (c Comparison) changesIn(ctx context.Context, upper drivers.Upperdir, toDir,
	fromDir string) ([]diff.Change, error) {
	if upper != nil {
		return diff.MergedChanges(ctx, diff.MergedLayer{Upper: c.Info.Content, Merged: toDir, Parent: fromDir})
	}
	return diff.TreeChanges(ctx, toDir, fromDir, c.Options)
}

// upperdir returns the driver's ability to tell from the layer's own directory which
// names have changed, or nil when whole trees must be compared; and whether that
// directory alone tells how, too.
func (c Comparison) upperdir(ctx context.Context) (upper drivers.Upperdir, native bool, err error) {
	upper, ok := c.Driver.(drivers.Upperdir)
	if !ok || c.From != c.Info.Parent {
		return nil, false, nil
	}
	native, err = upper.NativeDiff(ctx)
	return upper, native, err
}

// inTrees calls fn with the whole content of both layers, as whoever mounts them sees it.
// fromDir is "" when there is nothing to compare with.
func (c Comparison) inTrees(ctx context.Context, fn func(toDir, fromDir string) error) (err error) {
	toDir, release, err := c.tree(ctx, c.To, c.MountTo)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if c.From == "" {
		return fn(toDir, "")
	}
	fromDir, releaseFrom, err := c.tree(ctx, c.From, c.MountFrom)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, releaseFrom()) }()
	return fn(toDir, fromDir)
}

// tree gives a directory with a layer's whole content until release is called. The mount
// is read-only and of use to nobody else: it has no place in the tree and goes with its
// descriptor, or where the kernel can't do that is made in c.Temp.
func (c Comparison) tree(ctx context.Context, id string, opts drivers.MountOptions) (dir string,
	release func() error, err error) {
	opts.ReadOnly = true
	specs, err := c.Driver.Mounts(ctx, id, opts)
	if err != nil {
		return "", nil, err
	}
	if len(specs) == 0 {
		info, err := c.Driver.Stat(ctx, id)
		return info.MountPoint, func() error { return nil }, err
	}
	if len(specs) == 1 {
		root, err := mount.Detached(ctx, specs[0])
		if err == nil {
			return fmt.Sprintf("/proc/self/fd/%d", root.Fd()), root.Close, nil
		}
		if !errors.Is(err, errdefs.ErrUnsupported) {
			return "", nil, err
		}
	}
	aside, err := tempdir.New(c.Temp)
	if err != nil {
		return "", nil, err
	}
	dir = aside.Addition()
	release = func() error { return errors.Join(mount.Unmount(dir), aside.Close()) }
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, errors.Join(err, release())
	}
	specs[len(specs)-1].Target = dir
	for _, spec := range specs {
		if err := mount.Perform(ctx, spec); err != nil {
			return "", nil, errors.Join(err, release())
		}
	}
	return dir, release, nil
}
