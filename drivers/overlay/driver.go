package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/internal/files"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/quota"
	"golang.org/x/sys/unix"
)

// Name is the driver's name in storage.conf and of its directory in the graph root.
const Name = "overlay"

// Options are the driver's settings, decoded from storage.conf's
// [storage.options.overlay].
type Options struct {
	// Place is where the store lies.
	drivers.Place
	// MountOptions is mountopt, split at its commas: what every mount gets unless its
	// caller has options of its own.
	MountOptions []string
	// SkipMountHome leaves the home as it is, instead of making it a private mount point.
	SkipMountHome bool
	// MountProgram is mount_program: what mounts in the kernel's stead.
	MountProgram string
	// StartProgram starts it (mount.Spec.Start).
	StartProgram func(*exec.Cmd) error
	// FindProgram looks for a mount program on the host, "" for none, where there is no
	// MountProgram and overlayfs can't do the job: on a file system that it doesn't work
	// on, or when the store's layers were made for a mount program. nil finds none.
	FindProgram func() string
	// ForceMask is force_mask: the mode of each layer's root directory, whose true owner
	// and mode go into an xattr. Writable layers can have it with MountProgram only,
	// which reads it back. See Driver.ForceMask for what nil means.
	ForceMask *fs.FileMode
	// DisableIDMap keeps the driver from translating owners while mounting, even where
	// the kernel can.
	DisableIDMap bool
	// AdditionalLayerStores are asked for layers that others have.
	AdditionalLayerStores []LayerStore

	// Limits are size and inodes: what bounds a writable layer whose maker says nothing
	// else. They take a file system with project quotas.
	Limits quota.Limits

	// UseComposefs asks for what this driver doesn't do: Stage refuses it rather than
	// ignore it. Layers that are there are read as ever.
	UseComposefs bool
}

// Driver is the overlay driver of one store. It implements drivers.Driver and all
// of its capabilities, and may be used by several goroutines at once.
type Driver struct {
	opts         Options
	homes        files.Homes
	facts        facts
	network      bool // an ordinary user's mount program works on a network file system
	homePrepared atomic.Bool
}

// Factory makes the driver known to a registry, with its settings; the place comes from
// whoever opens it.
func Factory(opts Options) drivers.Factory {
	return drivers.Factory{
		Name:    Name,
		Aliases: []string{"overlay2"},
		Open: func(ctx context.Context, at drivers.Place) (drivers.Driver, error) {
			opts := opts
			opts.Place = at
			return Open(ctx, opts)
		},
	}
}

// Open opens the driver, which costs a few system calls. Only where the home doesn't
// exist yet does it make a test mount, and returns errdefs.ErrUnsupported when overlayfs
// can't work there and no mount program is found; an existing home is taken to work, and
// what fails says so when it is used.
func Open(ctx context.Context, opts Options) (_ *Driver, err error) {
	defer drivers.Describe(&err, Name)
	var stores []string
	for _, store := range opts.AdditionalLayerStores {
		stores = append(stores, store.Path)
	}
	homes, err := files.NewHomes(Name, opts.Place, stores)
	if err != nil {
		return nil, err
	}
	if opts.RunRoot != "" && !filepath.IsAbs(opts.RunRoot) {
		return nil, fmt.Errorf("%s: %w: the path is not absolute", opts.RunRoot, errdefs.ErrInvalid)
	}
	if err := checkProgram(opts.MountProgram); err != nil {
		return nil, err
	}
	d := &Driver{opts: opts, homes: homes}
	for _, home := range d.homes.Own {
		fresh, err := makeHome(home)
		if err != nil {
			return nil, err
		}
		if !fresh || d.opts.MountProgram != "" {
			continue
		}
		err = d.supported(ctx, home)
		if errors.Is(err, errdefs.ErrUnsupported) && d.findProgram() == nil {
			continue
		}
		if err != nil {
			_ = os.Remove(filepath.Join(home, drivers.TempDirs))
			_ = os.Remove(filepath.Join(home, files.LinkDir))
			_ = os.Remove(home) // a home left behind would look like a store of this driver
			return nil, err
		}
	}
	if err := d.rememberProgram(); err != nil {
		return nil, err
	}
	d.maskOnNetwork()
	return d, nil
}

// makeHome makes a home with its l directory, which keeps it from being removed as empty,
// and reports whether it wasn't there before.
func makeHome(home string) (fresh bool, err error) {
	links := filepath.Join(home, files.LinkDir)
	if _, err := os.Lstat(links); err == nil {
		return false, nil
	}
	entries, err := openat.List(home, ".")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return len(entries) == 0, os.MkdirAll(links, 0o755)
}

// Name is "overlay".
func (d *Driver) Name() string { return Name }

// Files are where the driver's layers are, for package examine.
func (d *Driver) Files() files.Homes { return d.homes }

// Close has nothing to give back.
func (d *Driver) Close() error { return nil }

// taken reports whether something lies in the place of layer id, in any of the homes that
// layers are made in.
func (d *Driver) taken(id string) bool {
	return slices.ContainsFunc(d.homes.Own, func(home string) bool {
		return unix.Access(filepath.Join(home, id), unix.F_OK) != unix.ENOENT
	})
}
