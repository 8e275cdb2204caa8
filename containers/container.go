// Package containers keeps the records of containers.
package containers

import (
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/idtools"
)

// Container is a record of containers.json. The order of its fields is the order of the members in the file.
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
