package layers

import (
	"path/filepath"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
)

// Layer is a record of layers.json. The order of its fields is the order of the members
// in the file.
//
// Parent is the ID of the layer beneath, "" for a base layer. The digests and sizes, in
// bytes, are those of the tar that the layer came as: compressed, as a registry has it,
// and uncompressed (Diff…); of its table of contents, where it was pulled by that. They
// are "" and 0 for a layer that was written through a mount. UIDs and GIDs are the owners
// that the tar's entries have, ascending, and UIDMap and GIDMap what these were
// translated by on disk. BigDataNames are the keys of its data items.
type Layer struct {
	ID               string         `json:"id"`
	Names            []string       `json:"names,omitempty"`
	Parent           string         `json:"parent,omitempty"`
	Metadata         string         `json:"metadata,omitempty"`
	MountLabel       string         `json:"mountlabel,omitempty"`
	Created          time.Time      `json:"created"`
	CompressedDigest digest.Digest  `json:"compressed-diff-digest,omitempty"`
	CompressedSize   int64          `json:"compressed-size,omitempty"`
	DiffID           digest.Digest  `json:"diff-digest,omitempty"`
	DiffSize         int64          `json:"diff-size,omitempty"`
	TOCDigest        digest.Digest  `json:"toc-digest,omitempty"`
	Compression      compress.Kind  `json:"compression,omitempty"`
	UIDs             []uint32       `json:"uidset,omitempty"`
	GIDs             []uint32       `json:"gidset,omitempty"`
	Flags            map[string]any `json:"flags,omitempty"`
	UIDMap           []idtools.Map  `json:"uidmap,omitempty"`
	GIDMap           []idtools.Map  `json:"gidmap,omitempty"`
	BigDataNames     []string       `json:"big-data-names,omitempty"`

	// ReadOnly layers are those of another store, which is only read: they can be built
	// upon, not changed, deleted or mounted.
	ReadOnly bool `json:"-"`

	home string // the directory of the other store's records, tar-split files and data items
}

// Mapping is the ID mapping that was applied to the owners of the layer's files; none
// when files have the owners of the archive.
func (l Layer) Mapping() idtools.Mapping { return idtools.Mapping{UIDs: l.UIDMap, GIDs: l.GIDMap} }

// Size is the size of the layer's uncompressed tar in bytes, or -1 when it isn't known:
// the layer didn't come as a tar.
func (l Layer) Size() int64 {
	if l.DiffID == "" && l.TOCDigest == "" {
		return -1
	}
	return l.DiffSize
}

// Store is the graph root of the other store that the layer was found in; "" for the
// store's own.
func (l Layer) Store() string {
	if l.home == "" {
		return ""
	}
	return filepath.Dir(l.home)
}

// refuse is the error for what can't be done with a layer of a read-only store.
func (l Layer) refuse() error {
	return errdefs.OtherStore{Kind: errdefs.Layer, ID: l.ID, Store: filepath.Dir(l.home),
		Why: "its layers can only be built upon"}
}

// flagIncomplete marks a layer that a writer of containers/storage is creating or
// deleting (format, section 5.2).
const flagIncomplete = "incomplete"

func (l Layer) incomplete() bool {
	v, _ := l.Flags[flagIncomplete].(bool)
	return v
}

// setDigests puts what an import has learned of its tar into the record.
func (l *Layer) setDigests(r apply.Result) {
	l.CompressedDigest, l.CompressedSize = r.CompressedDigest, r.CompressedSize
	l.DiffID, l.DiffSize = r.DiffID, r.DiffSize
	l.Compression = r.Compression
	l.UIDs, l.GIDs = r.UIDs, r.GIDs
}

// clearDigests takes out of the record what was true of the layer's former content.
func (l *Layer) clearDigests() {
	l.setDigests(apply.Result{})
	l.TOCDigest = ""
}
