package layers

import (
	"io"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/idtools"
)

// CreateOptions describes a layer to create.
type CreateOptions struct {
	// ID is 64 hexadecimal digits by custom; "" draws one at random.
	ID string
	// Parent is the layer beneath: its ID, name or unique ID prefix; "" for a base layer.
	Parent string
	Names  []string
	// Metadata is kept for the caller, unread.
	Metadata string
	// MountLabel is the SELinux label to mount the layer with when a mount names none.
	MountLabel string
	// Writable layers are those that containers write to. It says nothing about who may
	// apply a diff.
	Writable bool
	// Limits bound what a writable layer may hold; the zero value leaves it to the
	// driver's settings. errdefs.ErrUnsupported where that can't be done.
	Limits drivers.Limits
	// Volatile layers may vanish in a crash. Their record is in volatile-layers.json,
	// which is never synced.
	Volatile bool
	// IDMap is how the owners in the layer's content translate to the host's. The zero
	// value takes over the parent's map, and for a base layer means none. Where the
	// driver translates owners while mounting, only a container's layer has a map.
	IDMap idtools.Mapping
	// HostUIDMapping and HostGIDMapping ask for no translation even if the parent has
	// one.
	HostUIDMapping, HostGIDMapping bool
	// Container tells that this is the layer of a container that runs with IDMap. With
	// Shift its parent is kept without a mapping and Mount translates the parent's
	// owners; without it the parent has the same mapping on disk, or is copied.
	Container, Shift bool
	// Flags are kept in the record for whoever reads them.
	Flags map[string]any
	// BigData is stored with the layer from the start.
	BigData []Item

	// OriginalDigest and OriginalSize are those of the blob as a registry has it, for
	// content that comes in another compression than the blob had. Without them the
	// stream's own are recorded. The size (in bytes) counts only together with the
	// digest; nil means unknown.
	OriginalDigest digest.Digest
	OriginalSize   *int64
	// DiffID, when not "", is what the content's uncompressed digest must be. Content
	// with another digest is refused with errdefs.ErrInvalid.
	DiffID digest.Digest
}

// Item is a data item to store with a layer.
type Item struct {
	Key  string
	Data io.Reader
}
