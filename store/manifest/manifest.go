// Package manifest makes the manifest and the config of an image of its layers, and looks
// at those that somebody brings.
//
// A store takes images without either. Podman and its kin can't: one image without a
// manifest, or with one that they can't read, keeps them from listing any.
package manifest

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// Key is that of an image's manifest among its data items. The config's key is its
// digest.
const Key = "manifest"

// The media types of the image specification (image-spec, media-types.md) that are made.
const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
)

type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
}

type image struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type config struct {
	Created      time.Time `json:"created"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Config       struct{}  `json:"config"`
	RootFS       rootFS    `json:"rootfs"`
	History      []history `json:"history"`
}

type rootFS struct {
	Type    string          `json:"type"`
	DiffIDs []digest.Digest `json:"diff_ids"`
}

type history struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

// Describe returns the manifest and the config of an image that is made at a time of a
// layer and what is beneath it, or of no layer for "". The manifest is the first. It says
// that the image is for this machine, and nothing of what runs in it.
//
// Podman can't list an image either with a layer that didn't come as a tar, such as one
// that was written through a mount. It is a NoDigest; store.Store.Commit or a diff that
// is imported make another of it.
func Describe(ctx context.Context, s *store.Store, topLayer string, created time.Time) ([]images.Item, error) {
	chain, err := chainOf(ctx, s, topLayer)
	if err != nil {
		return nil, err
	}
	made := image{SchemaVersion: 2, MediaType: manifestType, Layers: []descriptor{}}
	about := config{Created: created.UTC(), Architecture: runtime.GOARCH, OS: "linux",
		RootFS: rootFS{Type: "layers", DiffIDs: []digest.Digest{}}, History: []history{}}
	for _, layer := range chain {
		if layer.DiffID == "" {
			return nil, NoDigest{layer.ID, layer.Parent}
		}
		made.Layers = append(made.Layers, descriptor{layerType, layer.DiffID, layer.DiffSize})
		about.RootFS.DiffIDs = append(about.RootFS.DiffIDs, layer.DiffID)
		about.History = append(about.History, history{layer.Created.UTC(), "layer " + layer.ID})
	}
	configData, err := json.Marshal(about)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	made.Config = descriptor{configType, digest.FromBytes(configData), int64(len(configData))}
	data, err := json.Marshal(made)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return []images.Item{{Key: Key, Data: data}, {Key: made.Config.Digest.String(), Data: configData}}, nil
}

// NoDigest is an errdefs.ErrInvalid for a layer that can't be in an image, since it
// didn't come as a tar.
type NoDigest struct{ Layer, Parent string }

func (e NoDigest) Error() string {
	return fmt.Sprintf("layer %s: %v for an image: it has no digest, since it was written in place", e.Layer,
		errdefs.ErrInvalid)
}

// Is makes it an ErrInvalid.
func (e NoDigest) Is(target error) bool { return target == errdefs.ErrInvalid }

// chainOf is the layer with those beneath it, the lowest first.
func chainOf(ctx context.Context, s *store.Store, ref string) (chain []layers.Layer, err error) {
	err = s.View(ctx, func(tx *store.ReadTx) error {
		for ref != "" {
			layer, err := tx.Layer(ref)
			if err != nil {
				return err
			}
			chain, ref = append(chain, layer), layer.Parent
		}
		return nil
	})
	slices.Reverse(chain)
	return chain, err
}

// IsKey reports whether a data item of this key is read as a manifest.
func IsKey(key string) bool { return key == Key || strings.HasPrefix(key, Key+"-") }

// Check returns errdefs.ErrInvalid for a manifest that Podman can't read, which would
// keep it from listing any image; or whose config isn't among the image's data items.
// keys are theirs; nil takes that on trust.
func Check(data []byte, keys []string) error {
	var m struct {
		SchemaVersion int              `json:"schemaVersion"`
		Config        *descriptor      `json:"config"`
		Manifests     *json.RawMessage `json:"manifests"`
		FSLayers      *json.RawMessage `json:"fsLayers"` // of schema 1, which has no config
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("manifest: %w: %w", errdefs.ErrInvalid, err)
	}
	switch {
	case m.SchemaVersion == 1 && m.FSLayers != nil, m.SchemaVersion == 2 && m.Manifests != nil:
		return nil
	case m.SchemaVersion != 2 || m.Config == nil:
		return fmt.Errorf("manifest: %w: it is neither an image's nor an index", errdefs.ErrInvalid)
	case m.Config.Digest.Validate() != nil:
		return fmt.Errorf("manifest: %w: %q is no digest of a config", errdefs.ErrInvalid, m.Config.Digest)
	case keys != nil && !slices.Contains(keys, m.Config.Digest.String()):
		return fmt.Errorf("manifest: %w: the config that it names is missing: there is no data item %s",
			errdefs.ErrInvalid,
			m.Config.Digest)
	}
	return nil
}
