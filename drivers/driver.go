package drivers

import (
	"context"

	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/diskusage"
	"github.com/shalestore/shale/mount"
	"github.com/shalestore/shale/quota"
)

// Driver keeps the files of layers: one directory a layer, stacked on a parent. It knows
// IDs and directories, and nothing of records, archives or images. It describes mounts
// and makes none.
//
// # A layer comes
//
// A layer is born in two steps, so that its content can be written while nobody holds a
// lock and so that a crash leaves no half-made layer:
//
//	staged, err := d.Stage(ctx, parent, opts)  // a new layer directory, aside, seen by nobody
//	defer staged.Discard()                     // nothing to do after Commit
//	... fill staged.Content() ...              // minutes, perhaps; no lock held
//	... syncfs of its file system ...          // which covers the driver's own small files too
//	... take the layer lock ...
//	err = staged.Commit(ctx, id)               // rename into place, fsync both directories
//	... write the record, release the lock ...
//
// Who dies before Commit leaves a directory aside, which Recoverer.Recover removes; who
// dies between Commit and the record leaves a layer that List names and no record does,
// and that Commit of the same ID moves away.
//
// Where next to nothing waits to be written, one syncfs after the record costs less than
// three syncs before it: LeaveUnsynced tells Commit that the caller will make it, and
// layers.Draft.SyncOrPostpone decides. The layers of an image come side by side where the
// driver is a Stacker: each is staged on the one before it, all are filled at once, one
// syncfs covers them (layers.SyncTogether), and they are committed from the base up:
//
//	base, err := d.Stage(ctx, "", opts)
//	next, err := d.(Stacker).StageOn(ctx, base, "base", opts)
//	... fill both, syncfs ...
//	base.LeaveUnsynced()                       // the last one makes the others' names durable with its own
//	err = base.Commit(ctx, "base")
//	err = next.Commit(ctx, "next")
//
// # A layer is mounted
//
// Mounts says how; the caller performs it, counts it and takes it away:
//
//	specs, err := d.Mounts(ctx, id, opts)      // none for a driver whose layers are plain directories
//	for _, s := range specs {
//		err = mount.Perform(ctx, s)
//	}
//	... use info.MountPoint of d.Stat(ctx, id) ...
//	err = mount.Unmount(info.MountPoint)
//	err = d.(MountHome).Unmounted(ctx, id)     // if it is one; so is PrepareHome, before the first mount
//
// # A layer's content is replaced
//
// Children, names and mounts of the layer stay what they are, so the new content is
// staged whole and takes the place of the old one:
//
//	staged, err := d.Stage(ctx, parent, StageOptions{Replaces: id, Content: id})  // a copy, to be changed
//	... change staged.Content(), syncfs ...
//	trash, err := staged.Replace(ctx, id)      // under the layer lock: RENAME_EXCHANGE
//	... write the record, release the lock ...
//	err = trash.Empty(ctx)
//
// # A layer goes
//
// in the reverse order, so that no record ever speaks of files that aren't there:
//
//	... write the records without it ...       // under the layer lock
//	trash, err := d.Delete(ctx, id)            // renames it aside
//	... release the lock, answer ...
//	err = trash.Empty(ctx)                     // removes the files; Recover does after a crash
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

// Limits are what is asked for. nil means what the driver's settings say, 0 no limit.
type Limits struct {
	Bytes, Inodes *uint64
}

// Any reports whether there is a limit at all.
func (l *Limits) Any() bool {
	return l != nil && (l.Bytes != nil && *l.Bytes != 0 || l.Inodes != nil && *l.Inodes != 0)
}

// Staged is a layer directory that is not part of the store yet. It is used by one
// goroutine.
type Staged interface {
	// Content is the absolute path of the directory to fill. Its own mode and owner are
	// already those of the parent's root.
	Content() string
	// Remap translates the owners of everything that the layer shows, what is beneath it
	// included: from is the mapping that the parent's files have, to the one that the
	// layer's shall have. It comes before the layer is filled, and takes minutes for a
	// big layer; when ctx ends it stops, and the staged layer is then good for nothing
	// but Discard. A driver that can't is errdefs.ErrUnsupported: a layer then has its
	// parent's mapping.
	Remap(ctx context.Context, from, to idtools.Mapping) error
	// TakeRoot gives the root directory the owner and mode that the staged layer beneath
	// has by now, as Stage would have done. It is for layers of a Stacker whose content
	// doesn't say.
	TakeRoot() error
	// LeaveUnsynced has Commit leave its syncing to the caller, who syncs the whole file
	// system before anything tells of the layer, or needs nothing of it after a crash.
	LeaveUnsynced()
	// Commit moves the layer into place as id and returns when that is durable, unless
	// LeaveUnsynced was called. A directory left there by an interrupted operation is
	// moved away first. It fails with errdefs.ErrNotFound if the parent changed or went
	// since Stage. The caller holds the layer lock. After an error the staged layer can
	// still be discarded.
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

// MountOptions are what is asked for by whoever mounts.
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

// CountFootprint walks a layer's directory. It is for drivers that have no account.
func CountFootprint(ctx context.Context, dir string) (Footprint, error) {
	tree, err := diskusage.Count(ctx, dir)
	return Footprint{Bytes: tree.Allocated, Inodes: tree.Inodes}, err
}

// Property is one line of a status report.
type Property struct{ Name, Value string }
