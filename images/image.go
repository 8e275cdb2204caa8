// Package images keeps the records of images.
package images

import (
	"time"

	digest "github.com/opencontainers/go-digest"
)

// Image is a record of images.json. The order of its fields is the order of the members in the file.
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
}
