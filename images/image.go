package images

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/bigdata"
)

// Image is a record of images.json. The order of its fields is the order of the members
// in the file.
//
// Digest is one of those that the image answers to: see Digests. NamesHistory are the
// names that it has had, the latest first. TopLayer is a layer's ID, "" for an image
// without content, and MappedLayers are copies of that layer with other owners.
// BigDataNames are the keys of its data items, with their sizes in bytes and their
// digests.
type Image struct {
	ID             string                   `json:"id"`
	Digest         digest.Digest            `json:"digest,omitempty"`
	Names          []string                 `json:"names,omitempty"`
	NamesHistory   []string                 `json:"names-history,omitempty"`
	TopLayer       string                   `json:"layer,omitempty"`
	MappedLayers   []string                 `json:"mapped-layers,omitempty"`
	Metadata       string                   `json:"metadata,omitempty"`
	BigDataNames   []string                 `json:"big-data-names,omitempty"`
	BigDataSizes   map[string]int64         `json:"big-data-sizes,omitempty"`
	BigDataDigests map[string]digest.Digest `json:"big-data-digests,omitempty"`
	Created        time.Time                `json:"created"`
	Flags          map[string]any           `json:"flags,omitempty"`

	// ReadOnly images are those of another store, which is only read. Their names can be
	// changed, by a copy of the record.
	ReadOnly bool `json:"-"`

	home string // the directory of records and data items that the image was found in, unless it is the store's first
}

// refuse is the error for what can't be done with an image of a read-only store.
func (i Image) refuse() error {
	return errdefs.OtherStore{Kind: errdefs.Image, ID: i.ID, Store: filepath.Dir(i.home)}
}

// Digests returns every digest the image answers to, without repeats: Digest, then those
// of its manifests in the order of their keys.
func (i Image) Digests() []digest.Digest {
	var all []digest.Digest
	add := func(d digest.Digest) {
		if d != "" && !slices.Contains(all, d) {
			all = append(all, d)
		}
	}
	add(i.Digest)
	for _, key := range i.manifestKeys() {
		add(i.BigDataDigests[key])
	}
	return all
}

// manifestKeys lists the keys of the items that are manifests, in a fixed order.
// "manifest" sorts before "manifest-sha256:...".
func (i Image) manifestKeys() []string {
	var keys []string
	for key := range i.BigDataDigests {
		if isManifest(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// isManifest reports whether the digest of the item with this key is a digest of the
// image (format, section 2.3).
func isManifest(key string) bool { return strings.HasPrefix(key, "manifest") }

// settleDigest fills in Digest from the manifests when it is empty, and refuses digests
// that break the grammar: containers/storage won't load a file with such a record in it.
func (i *Image) settleDigest() error {
	for _, d := range i.Digests() {
		if err := d.Validate(); err != nil {
			return fmt.Errorf("image %s: digest %q: %w: %w", i.ID, d, errdefs.ErrInvalid, err)
		}
	}
	if all := i.Digests(); i.Digest == "" && len(all) > 0 {
		i.Digest = all[0]
	}
	return nil
}

// Options describes an image to create.
type Options struct {
	// ID is 64 hexadecimal digits by custom; "" draws one at random.
	ID    string
	Names []string
	// TopLayer is the ID of a layer, or "" for an image without content.
	TopLayer string
	Metadata string
	// Created is the time to record; the zero time means now.
	Created time.Time
	// Digest is the image's own digest, when it isn't that of its manifest.
	Digest       digest.Digest
	NamesHistory []string
	Flags        map[string]any
	BigData      []Item
}

// Item is a data item of an image. A manifest's digest that breaks the grammar is
// errdefs.ErrInvalid wherever one is stored.
type Item = bigdata.Item
