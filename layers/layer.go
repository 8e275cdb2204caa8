package layers

import (
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/idtools"
)

// Layer is a record of layers.json. The order of its fields is the order of the members in the file.
type Layer struct {
	ID               string              `json:"id"`
	Names            []string            `json:"names,omitempty"`
	Parent           string              `json:"parent,omitempty"`
	Metadata         string              `json:"metadata,omitempty"`
	MountLabel       string              `json:"mountlabel,omitempty"`
	Created          time.Time           `json:"created"`
	CompressedDigest digest.Digest       `json:"compressed-diff-digest,omitempty"`
	CompressedSize   int64               `json:"compressed-size,omitempty"`
	DiffID           digest.Digest       `json:"diff-digest,omitempty"`
	DiffSize         int64               `json:"diff-size,omitempty"`
	TOCDigest        digest.Digest       `json:"toc-digest,omitempty"`
	Compression      archive.Compression `json:"compression,omitempty"`
	UIDs             []uint32            `json:"uidset,omitempty"`
	GIDs             []uint32            `json:"gidset,omitempty"`
	Flags            map[string]any      `json:"flags,omitempty"`
	UIDMap           []idtools.Map       `json:"uidmap,omitempty"`
	GIDMap           []idtools.Map       `json:"gidmap,omitempty"`
	BigDataNames     []string            `json:"big-data-names,omitempty"`
}
