package store

import (
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// ImageOptions describes an image to create. TopLayer may be a layer's ID, name or unique
// ID prefix.
type ImageOptions = images.Options

// ContainerOptions describes a container to create.
type ContainerOptions struct {
	// ID is 64 hexadecimal digits by custom; "" draws one at random.
	ID    string
	Names []string
	// Image is the image the container starts from: its ID, name or unique ID prefix; ""
	// for an empty container.
	Image string
	// Layer is the ID that the container's new layer shall have; "" draws one at random.
	Layer    string
	Metadata string
	// IDMap is the mapping the container runs with; the zero value is none.
	IDMap idtools.Mapping
	// AutoUserns, when not nil, has the store choose the mapping.
	AutoUserns *AutoUserns
	// HostUIDMapping and HostGIDMapping ask for no mapping whatever IDMap says.
	HostUIDMapping, HostGIDMapping bool
	// LabelOpts are SELinux label options as Podman gives them ("disable",
	// "level:s0:c1,c2"). They matter where SELinux is on, and when Flags doesn't hold
	// both a ProcessLabel and a MountLabel.
	LabelOpts []string
	// Limits bound what the container may write; the zero value leaves it to
	// storage.conf's size and inodes. errdefs.ErrUnsupported, before anything is made,
	// where the driver or the file system can't do it.
	Limits drivers.Limits
	// MountOpts are the mount options to keep for the container; nil means the store's
	// own.
	MountOpts []string
	// Volatile containers may vanish in a crash and are mounted without ever being
	// synced.
	Volatile bool
	Flags    map[string]any
	BigData  []containers.Item
}

// MountOptions are what whoever mounts asks for.
type MountOptions struct {
	// ReadOnly mounts the layer without its upper directory being writable.
	ReadOnly bool
	// Options are mount options; nil means those of the container, or else of the store.
	Options []string
	// Label is the SELinux mount label; "" means that of the layer's record.
	Label string
	// IDMap shows a layer, or an image, with other owners: those that its IDs have in a
	// container with this mapping. Such a mount is ReadOnly. A container has its own
	// mapping, which the zero value stands for.
	IDMap idtools.Mapping
}

// DiffOptions says how a diff is written.
type DiffOptions = layers.DiffOptions
