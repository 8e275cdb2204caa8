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
	"strings"
	"sync/atomic"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/quota"
	"golang.org/x/sys/unix"
)

// Name is the driver's name in storage.conf and of its directory in the graph root.
const Name = "overlay"

// Names in the home that are no layers.
const (
	linkDir     = "l"
	tempDirs    = "tempdirs"
	stagingDirs = "staging"
)

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

	// These are settings of the format that this driver doesn't carry out; Open refuses
	// them by name rather than ignore them.

	UseComposefs bool
}

// Driver is the overlay driver of one store. It implements drivers.Driver, Upperdir,
// Homer, Shifter, AfterUnmount, Recoverer, Pruner, PullStager, Examiner, Limiter and
// AdditionalLayers, and may be used by several goroutines at once.
type Driver struct {
	opts         Options
	homes        []string // directories of layers; the graph root's first, then the image store's
	others       []string // homes of read-only stores
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
func Open(ctx context.Context, opts Options) (*Driver, error) {
	if err := opts.check(); err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	d := &Driver{opts: opts, homes: []string{filepath.Join(opts.Root, Name)}}
	if opts.ImageStore != "" {
		d.homes = append(d.homes, filepath.Join(opts.ImageStore, Name))
	}
	for _, root := range opts.ReadOnly {
		d.others = append(d.others, filepath.Join(root, Name))
	}
	if !opts.Limits.IsZero() {
		if err := quota.Supported(d.homes[0]); err != nil {
			return nil, fmt.Errorf("overlay: settings size and inodes: %w", err)
		}
	}
	for _, home := range d.homes {
		fresh, err := makeHome(home)
		if err != nil {
			return nil, fmt.Errorf("overlay: %w", err)
		}
		if !fresh || d.opts.MountProgram != "" {
			continue
		}
		err = d.supported(ctx, home)
		if errors.Is(err, errdefs.ErrUnsupported) && d.findProgram() == nil {
			continue
		}
		if err != nil {
			_ = os.Remove(filepath.Join(home, tempDirs))
			_ = os.Remove(filepath.Join(home, linkDir))
			_ = os.Remove(home) // a home left behind would look like a store of this driver
			return nil, fmt.Errorf("overlay: %w", err)
		}
	}
	if err := d.rememberProgram(); err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	d.maskOnNetwork()
	return d, nil
}

// check refuses what would otherwise go unheeded.
func (o Options) check() error {
	for _, p := range append([]string{o.Root, o.RunRoot, o.ImageStore}, o.ReadOnly...) {
		if p != "" && !filepath.IsAbs(p) {
			return fmt.Errorf("%s: %w: the path is not absolute", p, errdefs.ErrInvalid)
		}
	}
	if o.Root == "" {
		return fmt.Errorf("graph root: %w: none given", errdefs.ErrInvalid)
	}
	for _, missing := range []struct {
		setting string
		asked   bool
	}{
		{"use_composefs", o.UseComposefs},
	} {
		if missing.asked {
			return errdefs.Unsupported{Setting: missing.setting, By: "by this driver",
				Cure: "remove it from storage.conf"}
		}
	}
	return checkProgram(o.MountProgram)
}

// makeHome makes a home with its l directory, which keeps it from being removed as empty,
// and reports whether it wasn't there before.
func makeHome(home string) (fresh bool, err error) {
	links := filepath.Join(home, linkDir)
	if _, err := os.Lstat(links); err == nil {
		return false, nil
	}
	entries, err := os.ReadDir(home)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return len(entries) == 0, os.MkdirAll(links, 0o755)
}

// Name is "overlay".
func (d *Driver) Name() string { return Name }

// Close has nothing to give back.
func (d *Driver) Close() error { return nil }

// homeFor is where a new layer belongs.
func (d *Driver) homeFor(writable bool) string {
	if writable {
		return d.homes[0]
	}
	return d.homes[len(d.homes)-1]
}

// find returns a layer's directory and the home that it is in.
func (d *Driver) find(id string) (dir, home string, err error) {
	if err := validateID(id); err != nil {
		return "", "", err
	}
	for _, home := range d.everywhere() {
		dir := filepath.Join(home, id)
		var st unix.Stat_t
		switch err := unix.Lstat(dir, &st); {
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
			return dir, home, nil
		case err == nil, err == unix.ENOENT:
		default:
			return "", "", fmt.Errorf("layer %s: stat %s: %w", id, dir, err)
		}
	}
	return "", "", fmt.Errorf("layer %s: %w to the overlay driver in %s", id, errdefs.ErrNotFound,
		strings.Join(d.everywhere(), " and "))
}

// taken reports whether something lies in the place of layer id, in any of the homes that
// layers are made in.
func (d *Driver) taken(id string) bool {
	return slices.ContainsFunc(d.homes, func(home string) bool {
		return unix.Access(filepath.Join(home, id),
			unix.F_OK) != unix.ENOENT
	})
}

// everywhere is where layers are looked for, in this order.
func (d *Driver) everywhere() []string { return slices.Concat(d.homes, d.others) }

// findOwn is find for what is going to be changed. A layer of a read-only store is
// errdefs.ErrReadOnly.
func (d *Driver) findOwn(id string) (dir, home string, err error) {
	dir, home, err = d.find(id)
	if err == nil && slices.Contains(d.others, home) {
		return "", "", errdefs.OtherStore{Kind: errdefs.Layer, ID: id, Store: filepath.Dir(home)}
	}
	return dir, home, err
}

// validateID also refuses the names that mean something else in the home.
func validateID(id string) error {
	switch id {
	case linkDir, tempDirs, stagingDirs:
		return fmt.Errorf("layer ID %q: %w: the overlay driver uses that name itself", id, errdefs.ErrInvalid)
	}
	return drivers.ValidateID(id)
}
