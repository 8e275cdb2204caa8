package drivers

import (
	"context"
	"io"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/quota"
)

// What only some drivers can do is an interface of its own, found by a type assertion on
// a Driver. Each says what its absence means. A driver that has one part of such an
// interface has the others.

// MountHome is a driver whose layers are mounted beneath a directory of its own, the
// home, which must be a private mount before anything is mounted there.
// containers/storage makes such a mount when it starts; one made after ours would hide
// ours. Without it nothing needs preparing or tidying up.
type MountHome interface {
	// PrepareHome makes the home a private mount point of this mount namespace, if it
	// isn't one. The caller holds storage.lock.
	PrepareHome(ctx context.Context) error
	// HomePrepared reports whether PrepareHome has nothing to do; it is cheap.
	HomePrepared() (bool, error)
	// ReleaseHome undoes PrepareHome, when no layer is mounted any more.
	ReleaseHome(ctx context.Context) error
	// MountPoint is Info.MountPoint without the rest of Info; errdefs.ErrNotFound for a
	// layer that the driver doesn't have.
	MountPoint(id string) (string, error)
	// Unmounted tidies up a layer once its mount is gone.
	Unmounted(ctx context.Context, id string) error
}

// Upperdir is a driver whose Info.Content holds a layer's changes against its parents in
// overlayfs form: whiteouts are character devices 0:0 and opaque directories carry an
// xattr (kernel Documentation/filesystems/overlayfs.rst). Changes and diffs are then read
// from that directory alone, or, when NativeDiff is false, from what the mounted layer
// shows of the names found there. Without it layers compares the whole mounted layer with
// its mounted parent.
type Upperdir interface {
	// NativeDiff reports whether Info.Content alone is the truth: false when the kernel
	// may have left redirects or metacopies in it, or a mount program its own marks.
	NativeDiff(ctx context.Context) (bool, error)
	// UserXattr reports whether overlay's own attributes are user.overlay.* rather than
	// trusted.overlay.*.
	UserXattr() bool
}

// Shifter is a driver that can translate owners while it mounts: a layer's files keep the
// container's IDs on disk, and one copy serves containers of every mapping. Without it,
// or where it says no, owners are translated on disk, by Remapper.
type Shifter interface {
	// SupportsShifting reports whether MountOptions.IDMap may hold m.
	SupportsShifting(ctx context.Context, m idtools.Mapping) (bool, error)
	// ShiftsLayer reports whether this layer and all beneath it can be mounted so: a
	// layer of an additional layer store can't, since file systems of daemons don't have
	// that.
	ShiftsLayer(ctx context.Context, id string) (bool, error)
}

// Stacker is a driver that can stage a layer on one that is still staged itself, so that
// the layers of an image can be filled side by side. Without it each is committed before
// the next is staged.
type Stacker interface {
	// StageOn is Stage on top of lower, a Staged of this driver that will have been
	// committed as parent when the new one is.
	StageOn(ctx context.Context, lower Staged, parent string, opts StageOptions) (Staged, error)
}

// Recoverer is a driver that can tell what interrupted processes left behind. Without it
// there is nothing to recover.
type Recoverer interface {
	// Recover removes staged and deleted layers whose process is gone. It skips those of
	// living processes.
	Recover(ctx context.Context) error
}

// PullStager is a driver in which partial pulls are staged: trees that somebody else puts
// together, from files that other layers hold and what is fetched for the rest
// (zstd:chunked). Without it layers come as tars only.
type PullStager interface {
	// StagePull makes an empty place for one. opts.IDMap is for the owner of its root
	// directory, and opts.Writable tells where the layer lies.
	StagePull(ctx context.Context, opts StageOptions) (Pull, error)
}

// Pull is a partial pull in the making. It is this process's as long as that lives, and
// used by one goroutine.
type Pull interface {
	// Content is the directory to fill, and to sync before Install. Scratch is one around
	// it, on the same file system, for what is needed meanwhile.
	Content() string
	Scratch() string
	// Install makes the content that of a layer that exists, in one rename, and returns
	// when that is durable. Unless ownRoot says that the pull has brought attributes of
	// the root directory, it gets the mode that the layer had. The Trash holds what the
	// layer had before. The caller holds the layer lock, and the layer isn't mounted.
	Install(ctx context.Context, id string, ownRoot bool) (Trash, error)
	// Discard removes it. After Install it has nothing to do, and it can be called twice.
	Discard() error
}

// Limiter is a driver that can bound what a container's layer holds
// (StageOptions.Limits), and knows without looking at its files what that is. Without it
// layers have no limits.
type Limiter interface {
	// Limitable returns nil where layers can have limits; otherwise
	// errdefs.ErrUnsupported, with what to mount or to format differently.
	Limitable(ctx context.Context) error
	// Quota returns a layer's limits, and what it takes on disk of them, in one system
	// call. It is errdefs.ErrUnsupported where nothing is counted, and
	// errdefs.ErrNotFound for a layer that isn't, such as an image's, one made before
	// there were quotas, or one that doesn't exist. No lock is needed.
	Quota(ctx context.Context, id string) (quota.Limits, quota.Usage, error)
}

// Measurer is a driver that can tell what it keeps of a layer: where, how much, and
// whether it changed. Without it a layer takes what Driver.Usage says, and of several
// stores that have a layer only the first can be read.
type Measurer interface {
	// Footprint measures everything that the driver keeps of a layer and that goes with
	// it: its content, which a walk or a quota tells, copies of what is beneath it, the
	// driver's own files. Content that only lies elsewhere, in an additional layer store,
	// isn't part of it.
	Footprint(ctx context.Context, id string) (Footprint, error)
	// Stamp is short, and another one after whatever may have changed the layer's
	// footprint: its content took the place of another, or it was mounted to be written
	// to. While the layer is mounted so it says nothing. It costs a few lstat(2).
	Stamp(ctx context.Context, id string) (string, error)
	// ContentIn is the directory for a layer with this ID in the store with this graph
	// root. It needn't exist.
	ContentIn(root, id string) string
}

// AdditionalLayers is a driver that can show layers of additional layer stores: file
// systems on which somebody else keeps layers ready, unpacked or to be fetched as they
// are read (section 12 of the storage format). Without it all layers are unpacked here.
type AdditionalLayers interface {
	// LookupAdditional finds the layer with this TOC digest that belongs to the image
	// with this reference, "docker.io/library/debian:12" for instance. It is in use from
	// then on, until Release. errdefs.ErrNotFound when no store has it.
	LookupAdditional(ctx context.Context, toc digest.Digest, reference string) (AdditionalLayer, error)
	// AdditionalOf is LookupAdditional for the layer that a layer of the driver's shows;
	// errdefs.ErrNotFound for a layer with content of its own.
	AdditionalOf(ctx context.Context, id string) (AdditionalLayer, error)
}

// AdditionalLayer is a layer in an additional layer store. What it reads may come over a
// network.
type AdditionalLayer interface {
	// Info is the layer's record in the form of layers.json, as far as the store knows
	// it. The store may be anybody's: read it with a bound.
	Info() (io.ReadCloser, error)
	// Blob is the layer's tar, compressed as Info says.
	Blob() (io.ReadCloser, error)
	// Stage stages a layer that shows this one, and is a user of its own. Its Content
	// isn't to be filled, and never changes.
	Stage(ctx context.Context, parent string) (Staged, error)
	// Release ends the use. It can be called twice. A store that can't be told keeps the
	// layer longer than it must.
	Release()
}
