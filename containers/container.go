package containers

import (
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/bigdata"
)

// Container is a record of containers.json, or of volatile-containers.json. The order of
// its fields is the order of the members in the file.
//
// ImageID is the image it was made from, "" for none, and LayerID the layer that is its
// own. BigDataNames are the keys of its data items, with their sizes in bytes and their
// digests. UIDMap and GIDMap are those it runs with: see Mapping.
type Container struct {
	ID             string                   `json:"id"`
	Names          []string                 `json:"names,omitempty"`
	ImageID        string                   `json:"image"`
	LayerID        string                   `json:"layer"`
	Metadata       string                   `json:"metadata,omitempty"`
	BigDataNames   []string                 `json:"big-data-names,omitempty"`
	BigDataSizes   map[string]int64         `json:"big-data-sizes,omitempty"`
	BigDataDigests map[string]digest.Digest `json:"big-data-digests,omitempty"`
	Created        time.Time                `json:"created"`
	UIDMap         []idtools.Map            `json:"uidmap,omitempty"`
	GIDMap         []idtools.Map            `json:"gidmap,omitempty"`
	Flags          map[string]any           `json:"flags,omitempty"`
}

// The flags that the store itself reads and writes (format, section 2.4).
const (
	FlagMountLabel   = "MountLabel"
	FlagProcessLabel = "ProcessLabel"
	FlagMountOpts    = "MountOpts"
	FlagVolatile     = "Volatile"
)

// MountLabel is the SELinux label of the container's files; "" when there is none.
func (c Container) MountLabel() string { return c.stringFlag(FlagMountLabel) }

// ProcessLabel is the SELinux label of the container's processes; "" when there is none.
func (c Container) ProcessLabel() string { return c.stringFlag(FlagProcessLabel) }

func (c Container) stringFlag(name string) string {
	s, _ := c.Flags[name].(string)
	return s
}

// MountOpts returns the options the container's layer is mounted with; none mean the
// store's own.
func (c Container) MountOpts() []string {
	switch opts := c.Flags[FlagMountOpts].(type) {
	case []string:
		return opts
	case []any: // as it comes out of the JSON file
		var all []string
		for _, opt := range opts {
			if s, ok := opt.(string); ok {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}

// Volatile reports whether the container may vanish in a crash; its record is in
// volatile-containers.json then.
func (c Container) Volatile() bool {
	v, _ := c.Flags[FlagVolatile].(bool)
	return v
}

// Mapping is the ID mapping the container was asked for.
func (c Container) Mapping() idtools.Mapping { return idtools.Mapping{UIDs: c.UIDMap, GIDs: c.GIDMap} }

// Options describes a container to create.
type Options struct {
	// ID is 64 hexadecimal digits by custom; "" draws one at random.
	ID    string
	Names []string
	// ImageID and LayerID must exist; the store sees to that. ImageID may be "".
	ImageID, LayerID string
	Metadata         string
	IDMap            idtools.Mapping
	// MountOpts are the mount options to keep; none mean the store's own.
	MountOpts []string
	Volatile  bool
	Flags     map[string]any
	BigData   []Item
}

// Item is a data item of a container.
type Item = bigdata.Item
