package fsck

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/layers"
)

// adoptImage makes a record for an image from its data items: its manifest names the
// config, and that the digests of its layers. One without is errdefs.ErrNotFound.
func (c *checker) adoptImage(ctx context.Context, id string) (string, error) {
	fail := func(err error) error { return fmt.Errorf("image %s: describe it from its files: %w", id, err) }
	return "made a record for it from its manifest; its names are lost",
		c.UpdateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, _ *containers.WriteTx) error {
			image := images.Image{ID: id, Created: time.Now().UTC()}
			items, err := readItems(i.Home(image))
			if err != nil {
				return fail(err)
			}
			image.BigDataNames, image.BigDataSizes, image.BigDataDigests = index(items)
			diffIDs, created := configIn(items)
			if len(diffIDs) == 0 {
				return fail(fmt.Errorf("its manifest and its config: %w", errdefs.ErrNotFound))
			}
			if !created.IsZero() {
				image.Created = created
			}
			for _, diffID := range diffIDs {
				above, err := l.Children(image.TopLayer)
				if err != nil {
					return err
				}
				n := slices.IndexFunc(above, func(l layers.Layer) bool { return l.DiffID == diffID })
				if n < 0 {
					return fail(fmt.Errorf("a layer with the digest %s: %w", diffID, errdefs.ErrNotFound))
				}
				image.TopLayer = above[n].ID
			}
			return i.Insert(image)
		})
}

// readItems reads the data items in a directory.
func readItems(dir string) (map[string][]byte, error) {
	keys, err := keysIn(dir)
	items := map[string][]byte{}
	for _, key := range keys {
		name, nerr := bigdata.FileName(key)
		if nerr != nil {
			continue
		}
		data, rerr := readItem(filepath.Join(dir, name))
		if rerr != nil {
			return nil, rerr
		}
		items[key] = data
	}
	return items, err
}

// index is what a record says of data items.
func index(items map[string][]byte) (keys []string, sizes map[string]int64, digests map[string]digest.Digest) {
	sizes, digests = map[string]int64{}, map[string]digest.Digest{}
	for key, data := range items {
		keys = append(keys, key)
		sizes[key], digests[key] = int64(len(data)), digest.FromBytes(data)
	}
	slices.Sort(keys)
	return keys, sizes, digests
}

// configIn looks among an image's items for the config that one of its manifests names.
func configIn(items map[string][]byte) (diffIDs []digest.Digest, created time.Time) {
	for key, data := range items {
		var manifest struct {
			Config struct {
				Digest digest.Digest `json:"digest"`
			} `json:"config"`
		}
		if !isManifest(key) || json.Unmarshal(data, &manifest) != nil {
			continue
		}
		var config struct {
			Created time.Time `json:"created"`
			RootFS  struct {
				DiffIDs []digest.Digest `json:"diff_ids"`
			} `json:"rootfs"`
		}
		for _, data := range items {
			if digest.FromBytes(data) == manifest.Config.Digest && json.Unmarshal(data, &config) == nil {
				return config.RootFS.DiffIDs, config.Created
			}
		}
	}
	return nil, created
}

// adoptContainer makes a record for a container from what its programs keep with it: that
// names the layer that it runs in. One that doesn't name any is errdefs.ErrNotFound.
func (c *checker) adoptContainer(ctx context.Context, id string) (string, error) {
	return "made a record for it from what is kept with it; its names and metadata are lost",
		c.UpdateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, k *containers.WriteTx) error {
			container := containers.Container{ID: id, Created: time.Now().UTC(), Flags: map[string]any{}}
			home := k.Home(container)
			items, err := readItems(home)
			if err != nil {
				return fmt.Errorf("container %s: describe it from its files: %w", id, err)
			}
			container.BigDataNames, container.BigDataSizes, container.BigDataDigests = index(items)
			// of the OCI runtime, which names its root
			spec, err := readItem(filepath.Join(home, "userdata/config.json"))
			if err != nil {
				return err
			}
			all, err := l.All()
			if err != nil {
				return err
			}
			for _, layer := range all {
				named := func(text []byte) bool { return bytes.Contains(text, []byte("/"+layer.ID)) }
				users, err := i.ByTopLayer(layer.ID)
				if err != nil {
					return err
				}
				_, owned := k.ByLayer(layer.ID)
				if layer.ReadOnly || len(users) > 0 || owned == nil || !named(spec) && !slices.ContainsFunc(
					container.BigDataNames, func(key string) bool { return named(items[key]) }) {
					continue
				}
				container.LayerID, container.UIDMap, container.GIDMap = layer.ID, layer.UIDMap, layer.GIDMap
				if below, err := i.ByTopLayer(layer.Parent); err == nil && len(below) > 0 && layer.Parent != "" {
					container.ImageID = below[0].ID
				}
				return k.Insert(container)
			}
			return fmt.Errorf("container %s: the layer that it runs in: %w", id, errdefs.ErrNotFound)
		})
}
