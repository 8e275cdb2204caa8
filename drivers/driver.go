package drivers

import (
	"context"

	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/mount"
	"github.com/shalestore/shale/quota"
)

// Driver keeps the files of layers: one directory a layer, stacked on a parent. It knows
// IDs and directories, and nothing of records, archives or images.
//
// A layer is born in two steps, so that its content can be written while nobody holds a
// lock and so that a crash leaves no half-made layer:
//
//	staged, err := d.Stage(ctx, parent, opts)  // a new layer directory, aside, seen by nobody
//	... fill staged.Content() ...              // minutes, perhaps; no lock held
//	... syncfs of its file system ...          // which covers the driver's own small files too
//	err = staged.Commit(ctx, id)               // under the layer lock: rename into place, fsync both directories
//
// and goes in two steps as well: Delete renames it away under the lock, Trash.Empty
// removes the files afterwards.
//
// All methods may be called from several goroutines. Of different processes, only those
// that hold the store's layer lock may call Commit, Replace and Delete; the other methods
// need no lock, and may find that a layer has gone meanwhile (errdefs.ErrNotFound).
//
// An ID that ValidateID refuses is errdefs.ErrInvalid everywhere. A layer whose files are
// damaged, or whose parent's are gone, is errdefs.ErrCorrupt.
type Driver interface {
	// Name is the driver's name in storage.conf and in the store's directories:
	// "overlay", "vfs".
	Name() string
	// Stage prepares a new layer on top of parent ("" for none) in a place of its own on
	// the store's file system. It returns errdefs.ErrNotFound when parent does not exist
	// and errdefs.ErrInvalid for options that make no sense.
	Stage(ctx context.Context, parent string, opts StageOptions) (Staged, error)
	// Delete makes the layer vanish by renaming it away, and returns what is left to
	// empty. A layer that does not exist is no error: an interrupted deletion can be
	// repeated. It does not unmount.
	Delete(ctx context.Context, id string) (Trash, error)
	// Mounts describes how to mount the layer at Info.MountPoint, in the order in which
	// the mounts are to be made. An empty result means that the layer needs no mount and
	// that Info.MountPoint is its content already. It may tidy up what would stand in a
	// mount's way, so it is not called for a layer that is mounted, unless opts ask for a
	// read-only mount. Options that the driver doesn't allow are errdefs.ErrInvalid,
	// those that it can't carry out errdefs.ErrUnsupported.
	Mounts(ctx context.Context, id string, opts MountOptions) ([]mount.Spec, error)
	// Stat tells where a layer lies; errdefs.ErrNotFound when there is none.
	Stat(ctx context.Context, id string) (Info, error)
	// Usage counts what the layer itself holds, without its parents.
	Usage(ctx context.Context, id string) (Usage, error)
	// List returns the IDs of the layers found on disk, in no particular order, those
	// unknown to the store's records included.
	List(ctx context.Context) ([]string, error)
	// Status returns facts about the driver for people, in a fixed order.
	Status(ctx context.Context) []Property
	// Close gives back what the driver holds in this process. It touches no layer.
	Close() error
}

// StageOptions says what kind of layer is wanted.
type StageOptions struct {
	// Writable layers are those of containers: they alone may have a quota, and with a
	// split image store they stay in the graph root.
	Writable bool
	// IDMap is applied to the owner of the layer's root directory, when the layer has no
	// parent.
	IDMap idtools.Mapping
	// Shift is the mapping that the layer will be mounted with (MountOptions.IDMap),
	// where its parent is kept with the container's own IDs: it is applied to the owner
	// that the layer's root directory takes over from the parent's.
	Shift idtools.Mapping
	// Limits bound what a writable layer may hold. Where the file system can, such a
	// layer is also counted (Limiter); nil for one that isn't to be. A driver that isn't
	// a Limiter refuses limits with errdefs.ErrUnsupported, as does one whose file system
	// can't do it.
	Limits *Limits
	// Replaces is the layer whose content the staged one shall replace, or whose place it
	// shall take, "" for none. What is staged counts towards its limits.
	Replaces string
	// Content fills the layer from the start with a copy of another layer's own content
	// (its diff, not its parents'), before Stage returns; "" starts with an empty
	// directory. Used to change a layer that has content already without touching it in
	// place.
	Content string
}

// Limits are wishes. nil means what the driver's settings say, 0 no limit.
type Limits struct {
	Bytes, Inodes *uint64
}

// Any reports whether a limit is wished for at all.
func (l *Limits) Any() bool {
	return l != nil && (l.Bytes != nil && *l.Bytes != 0 || l.Inodes != nil && *l.Inodes != 0)
}

// Staged is a layer directory that is not part of the store yet.
type Staged interface {
	// Content is the absolute path of the directory to fill. Its own mode and owner are
	// already those of the parent's root.
	Content() string
	// Commit moves the layer into place as id and returns when that is durable (but see
	// Unsyncer). A directory left there by an interrupted operation is moved away first.
	// It fails with errdefs.ErrNotFound if the parent changed or went since Stage. The
	// caller holds the layer lock. After an error the staged layer can still be
	// discarded.
	Commit(ctx context.Context, id string) error
	// Replace is Commit for a layer that exists: the staged content takes the place of
	// the layer's own content in one rename, while its link, parents and children stay as
	// they are. What was there before is what the returned Trash empties.
	Replace(ctx context.Context, id string) (Trash, error)
	// Discard removes what Stage made. After Commit or Replace it only releases the (then
	// empty) place aside. It can be called twice.
	Discard() error
}

// Trash is what a deletion leaves to do: files already out of the store's sight.
type Trash interface {
	// Empty removes the files. What it can't finish is left for the recovery of a later
	// process; the error says what and why.
	Empty(ctx context.Context) error
}

// MountOptions are the wishes of whoever mounts.
type MountOptions struct {
	// ReadOnly mounts the layer's content and its parents as lowers, without upper and
	// work.
	ReadOnly bool
	// Options are mount options as containers/storage keeps them for a container
	// ("nodev", "metacopy=on"); nil means the driver's mountopt setting.
	Options []string
	// Label is the SELinux mount label; "" for none.
	Label string
	// Volatile asks for a mount that is never synced, for content that need not survive a
	// crash. Ignored where the kernel lacks it.
	Volatile bool
	// IDMap translates the owners of everything beneath the layer, whose own files have
	// the host's IDs already. It is for a Shifter that supports it; elsewhere it is
	// errdefs.ErrUnsupported.
	IDMap idtools.Mapping
	// MapOwn has IDMap translate the owners of the layer's own files as well. It is for
	// ReadOnly mounts.
	MapOwn bool
}

// Info tells where the parts of a layer are. All paths are absolute.
type Info struct {
	// Content is the directory with the layer's own files: what Staged.Content became.
	Content string
	// MountPoint is where Mounts are to be performed; equal to Content for a driver that
	// needs no mount.
	MountPoint string
	// Lower holds the content directories of the parents, nearest first; empty for a base
	// layer or a driver that copies.
	Lower []string
	// Work is overlay's work directory, else "".
	Work string
	// Parent is the layer that this one lies on, where Content alone doesn't hold
	// everything. A copy of a layer with other owners lies on the original, which is not
	// its record's parent.
	Parent string
	// Remapped tells that the layer holds a copy of all that is beneath it, with other
	// owners; Lower then begins with that.
	Remapped bool
	// Metadata is what `podman inspect` shows as GraphDriver.Data: LowerDir, UpperDir,
	// WorkDir, MergedDir for overlay.
	Metadata map[string]string
}

// Usage is what a layer takes on disk.
type Usage struct {
	Bytes  int64 // apparent sizes of its files, hard links counted once
	Inodes int64
}

// Footprint is what a layer takes of its file system.
type Footprint struct {
	Bytes  int64 // allocated, as df counts them: whole blocks, those of directories too; hard links once
	Inodes int64
	Quota  bool // the file system's own account said so, and nothing was walked
	// Limits are those of that account.
	Limits quota.Limits
}

// Property is one line of a status report.
type Property struct{ Name, Value string }
