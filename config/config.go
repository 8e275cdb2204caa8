// Package config is what a store is told before it opens: one typed Config.
//
// A program may fill it by itself. Package storageconf fills it from storage.conf(5), the
// environment and the command line; nothing in this package reads any of them, so who
// links a store links no parser.
package config

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/shalestore/shale/errdefs"
)

// Config is everything a store needs to know before it opens. Paths are absolute. A
// Config is a plain value: the two roots are enough, everything else has a zero value
// that makes sense.
type Config struct {
	// GraphRoot holds layers, images and containers; RunRoot what may be lost at a
	// reboot, such as the list of mounts.
	GraphRoot, RunRoot string
	// Existing takes only a store that is there: errdefs.ErrNotFound, and nothing is
	// made, where the roots hold none. A mistyped path is told so.
	Existing bool
	// ImageStore is where layers and images go when they are kept apart from those of
	// containers; "" keeps all in GraphRoot.
	ImageStore string
	// Driver is "overlay" or "vfs", or "" to let the store choose: the one found on disk,
	// else the first of DriverPriority that works.
	Driver string
	// DriverPriority is the order in which drivers are tried; nil stands for the store's
	// own order. Names of drivers that Shale doesn't have may be among them.
	DriverPriority []string
	// TransientStore keeps the records of containers in RunRoot.
	TransientStore bool
	// AdditionalImageStores are the roots of read-only stores, looked up in this order
	// after GraphRoot.
	AdditionalImageStores []string
	// AdditionalLayerStores are FUSE file systems that offer single layers.
	AdditionalLayerStores []LayerStore
	// Overlay and VFS are the options of each driver; only those of the driver in use
	// matter.
	Overlay Overlay
	VFS     VFS
	// DisableVolatile forbids mounts that are never synced.
	DisableVolatile bool
	// AutoUserns bounds the user namespaces that are sized automatically.
	AutoUserns AutoUserns
	// PullOptions are requests about pulls; the transfer package reads them.
	PullOptions PullOptions
	// Rootless tells that there are no powers over the host, whether the process is in a
	// user namespace already or not.
	Rootless bool
}

// Overlay holds the overlay driver's options.
type Overlay struct {
	// MountOptions are for layers that come without their own: "nodev", "metacopy=on".
	MountOptions []string
	// MountProgram is the absolute path of a program that mounts in the kernel's stead,
	// such as fuse-overlayfs; "" for none.
	MountProgram string
	// FindMountProgram looks for a mount program on the host, "" for none, where none is
	// set and overlayfs doesn't work; nil never finds one.
	FindMountProgram func() string `json:"-"`
	// StartMountProgram starts it instead of (*exec.Cmd).Start; nil for that. It is for a
	// program whose scheduling or control group a mount program shouldn't share.
	StartMountProgram func(*exec.Cmd) error `json:"-"`
	// IgnoreChownErrors keeps extracted files with the owner who extracts, where the
	// kernel refuses the archive's.
	IgnoreChownErrors bool
	// SkipMountHome leaves the driver's directory as it is, instead of making it a
	// private mount.
	SkipMountHome bool
	// UseComposefs asks for EROFS images with fs-verity instead of plain trees.
	UseComposefs bool
	// ForceMask is the permission that every file and directory gets on disk, the true
	// one going into an xattr; nil for none. Only permission bits are set.
	ForceMask *fs.FileMode
	// Size and Inodes bound a writable layer, in bytes and in files; 0 for no bound.
	Size, Inodes uint64
	// Sync is "none", "filesystem", or "" when nothing was said, which means
	// "filesystem".
	Sync string
	// DisableIDMap translates owners on disk even where the kernel could do it while
	// mounting. It comes from the environment alone
	// (_CONTAINERS_OVERLAY_DISABLE_IDMAP=yes).
	DisableIDMap bool
}

// VFS holds the vfs driver's options; the fields mean what they mean for Overlay.
type VFS struct {
	IgnoreChownErrors bool
	Sync              string
}

// LayerStore is one additional layer store.
type LayerStore struct {
	Path string
	// WithReference says that the store's directories are sorted by image reference
	// first.
	WithReference bool
}

// AutoUserns bounds user namespaces that are sized automatically. Sizes are in IDs.
type AutoUserns struct {
	// User is whose ranges of /etc/subuid and /etc/subgid are handed out, when the store
	// belongs to root; "" stands for "containers".
	User             string
	MinSize, MaxSize uint32
}

// PullOptions are the keys of [storage.options.pull_options].
type PullOptions struct {
	// EnablePartialImages fetches only the files of a zstd:chunked layer that aren't on
	// the host yet.
	EnablePartialImages bool
	// ConvertImages turns other layers into zstd:chunked ones, for the same gain.
	ConvertImages bool
	// UseHardLinks links files of equal content instead of copying them.
	UseHardLinks bool
	// OSTreeRepos are further places to take files from.
	OSTreeRepos []string
	// InsecureAllowUnpredictableImageContents lifts the demand that a partial pull gives
	// what a full one would give.
	InsecureAllowUnpredictableImageContents bool
}

// Validate refuses roots that no store can have: errdefs.ErrInvalid for one that is
// missing or not absolute, the error of stat(2) for an additional image store that can't
// be looked at.
func (c Config) Validate() error {
	for _, root := range []struct {
		name, path string
		optional   bool
	}{{"graph root", c.GraphRoot, false}, {"run root", c.RunRoot, false}, {"image store", c.ImageStore, true}} {
		if !filepath.IsAbs(root.path) && (root.path != "" || !root.optional) {
			return fmt.Errorf("%s %q: not an absolute path: %w", root.name, root.path, errdefs.ErrInvalid)
		}
	}
	for _, root := range c.AdditionalImageStores {
		switch st, err := os.Stat(root); {
		case !filepath.IsAbs(root):
			return fmt.Errorf("additional image store %q: not an absolute path: %w", root, errdefs.ErrInvalid)
		case err != nil:
			return fmt.Errorf("additional image store: %w", err)
		case !st.IsDir():
			return fmt.Errorf("additional image store %s: not a directory: %w", root, errdefs.ErrInvalid)
		}
	}
	return nil
}
