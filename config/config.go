package config

import (
	"io/fs"
	"maps"
	"os/exec"

	"github.com/shalestore/shale/idtools"
)

// Config is everything a store needs to know before it opens. Paths are absolute. A
// Config is a plain value: change what you like before you hand it on; Settings tells of
// what Load found.
type Config struct {
	// GraphRoot holds layers, images and containers; RunRoot what may be lost at a
	// reboot, such as the list of mounts.
	GraphRoot, RunRoot string
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
	// PullOptions are the wishes for pulls; the transfer package reads them.
	PullOptions PullOptions
	// Caller is the user who runs Shale, as the host sees it. Rootless tells that there
	// are no powers over the host, whether Shale runs in a user namespace already or not.
	Caller   idtools.Caller
	Rootless bool

	files   []string          // what was read, in order
	origins map[string]Origin // by key, of what isn't a default
	options []driverOption    // as containers-storage would pass them to its driver
}

// Overlay holds the overlay driver's options.
type Overlay struct {
	// MountOptions are for layers that come without their own: "nodev", "metacopy=on".
	MountOptions []string
	// MountProgram is the absolute path of a program that mounts in the kernel's stead,
	// such as fuse-overlayfs; "" for none.
	MountProgram string
	// StartMountProgram starts it instead of (*exec.Cmd).Start, for a program that wants it
	// to run in another way than itself; nil for none. No file or variable sets it.
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

// Overrides are what the command line says. It wins over the environment and the files.
//
// As with containers-storage, GraphRoot, RunRoot, Driver or Options switch the files off:
// what they don't say has its default, and neither storage.conf nor STORAGE_DRIVER and
// STORAGE_OPTS are looked at, except to find a root that isn't given. A script that names
// its roots is thus safe from the host's settings.
type Overrides struct {
	GraphRoot, RunRoot, ImageStore string // --graph, --run, --image-store; "" for not given
	Driver                         string // --storage-driver
	Options                        []string
	TransientStore                 *bool // --transient-store; nil for not given
	// File is the one file to read instead of those of the search path. When it is given,
	// it stays in force beside the other flags.
	File string
	// Strict turns keys that are unknown or without effect into errors.
	Strict bool
}

// explicit reports whether the command line stands in for the files.
func (o Overrides) explicit() bool {
	return o.File == "" && (o.GraphRoot != "" || o.RunRoot != "" || o.Driver != "" || len(o.Options) > 0)
}

// Load reads what concerns this process. Mistakes are errdefs.ErrInvalid; a driver that
// exists but that Shale lacks is errdefs.ErrUnsupported; both name the file and the line,
// the variable or the flag. The warnings are about what has no effect.
func Load(o Overrides) (Config, []Warning, error) {
	env, err := Process()
	if err != nil {
		return Config{}, nil, err
	}
	return env.Load(o)
}

// Load is the function Load in another environment.
func (env Environment) Load(o Overrides) (Config, []Warning, error) {
	l := loader{env: env, over: o, entries: map[string]entry{}, cfg: Config{
		Caller: env.Caller, Rootless: env.Rootless, origins: map[string]Origin{},
		Overlay: Overlay{DisableIDMap: env.get("_CONTAINERS_OVERLAY_DISABLE_IDMAP") == "yes"},
	}}
	if err := l.load(); err != nil {
		return Config{}, l.warnings, err
	}
	return l.cfg, l.warnings, nil
}

// Files returns the files that were read, in the order in which they took effect.
func (c Config) Files() []string { return append([]string(nil), c.files...) }

// Origins returns where each setting that isn't a default comes from, by the key that
// storage.conf has for it.
func (c Config) Origins() map[string]Origin { return maps.Clone(c.origins) }
