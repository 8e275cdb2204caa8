package fsck

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/manifest"
)

// checkImages reports layers and data items that images have lost.
func (c *checker) checkImages(i *images.ReadTx) {
	for _, image := range c.images {
		gone := func(layer string) bool { return c.byID[layer] == nil && !c.unrecorded[Object{KindLayer, layer}] }
		if id := image.TopLayer; id != "" && gone(id) {
			c.add(KindImage, image.ID, RemedyDelete, "layer %s: image layer is missing", id).inOther(image.ReadOnly)
		}
		for _, id := range image.MappedLayers {
			if gone(id) {
				f := c.add(KindImage, image.ID, RemedyForget, "layer %s: image layer is missing", id)
				f.inOther(image.ReadOnly)
				f.fix = c.edit("forgot the layer "+id,
					func(_ *layers.WriteTx, i *images.WriteTx, _ *containers.WriteTx) error {
						return i.ForgetMappedLayer(image.ID, id)
					})
			}
		}
		if what := invalidDigest(image); what != "" {
			f := c.add(KindImage, image.ID, c.or(RemedyRecord, Object{KindImage, image.ID}), "%s", what)
			f.inOther(image.ReadOnly)
			f.fix = c.edit("recorded the digests of its data items anew",
				func(_ *layers.WriteTx, i *images.WriteTx, _ *containers.WriteTx) error {
					return rewriteDigests(i, image.ID)
				})
		}
		if why := c.unlistable(image); why != "" {
			c.note(KindImage, image.ID, "%s, so Podman can't list images", why)
		}
		for _, key := range image.BigDataNames {
			size, err := i.ItemSize(image, key)
			c.checkItem(Object{KindImage, image.ID}, image.ReadOnly, key, size, image.BigDataSizes, err)
		}
	}
}

func isManifest(key string) bool { return strings.HasPrefix(key, manifest.Key) }

// unlistable says what of an image keeps Podman from listing any, or "".
func (c *checker) unlistable(image images.Image) string {
	if !slices.ContainsFunc(image.BigDataNames, isManifest) {
		return "it has no manifest"
	}
	layer := c.byID[image.TopLayer]
	for range c.byID { // parents may go in a circle
		if layer == nil {
			break
		}
		if layer.Size() < 0 {
			return fmt.Sprintf("its layer %s has no digest, since it was written in place", layer.ID)
		}
		layer = c.byID[layer.Parent]
	}
	return ""
}

// invalidDigest says which of an image's digests breaks the grammar, which keeps
// containers/storage from reading any image; "" when none does.
func invalidDigest(i images.Image) string {
	if i.Digest != "" && i.Digest.Validate() != nil {
		return fmt.Sprintf("its digest %q is none", i.Digest)
	}
	for _, key := range slices.Sorted(maps.Keys(i.BigDataDigests)) {
		if d := i.BigDataDigests[key]; d.Validate() != nil {
			return fmt.Sprintf("data item %q: its digest %q is none", key, d)
		}
	}
	return ""
}

// rewriteDigests puts the SHA-256 of a data item in the place of a digest that breaks the
// grammar. The image's own digest is then that of a manifest again.
func rewriteDigests(i *images.WriteTx, id string) error {
	image, err := i.Get(id)
	if err != nil {
		return err
	}
	image.BigDataDigests = maps.Clone(image.BigDataDigests)
	for key, d := range image.BigDataDigests {
		if d.Validate() == nil {
			continue
		}
		data, err := i.BigData(id, key)
		if err != nil {
			return err
		}
		image.BigDataDigests[key] = digest.FromBytes(data)
	}
	if image.Digest != "" && image.Digest.Validate() != nil {
		image.Digest = ""
		image.Digest = append(image.Digests(), "")[0]
	}
	return i.Replace(image)
}

// or is the remedy, unless one has been tried for the object and didn't help.
func (c *checker) or(remedy Remedy, o Object) Remedy {
	if c.hopeless[o] {
		return RemedyDelete
	}
	return remedy
}

// checkItem judges the size of a data item.
func (c *checker) checkItem(o Object, readOnly bool, key string, size int64, recorded map[string]int64, err error) {
	var what string
	want, known := recorded[key]
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		what = fmt.Sprintf("%s data item is missing", o.Kind)
	case err != nil:
		what = err.Error()
	case known && size != want:
		what = fmt.Sprintf("%s data item has incorrect size, %d instead of %d", o.Kind, size, want)
	default:
		return
	}
	c.badItem(o, readOnly, key, what)
}

func (c *checker) badItem(o Object, readOnly bool, key, what string) {
	f := c.add(o.Kind, o.ID, c.or(RemedyRestore, o), "%s", describeItem(key, "%s", what))
	f.key = key
	f.inOther(readOnly)
}

// describeItem says a finding about a data item.
func describeItem(key string, format string, args ...any) string {
	return fmt.Sprintf("data item %q: %s", key, fmt.Sprintf(format, args...))
}

func quoted(s string) string { return strconv.Quote(s) }

// checkContainers reports images, layers and data items that containers have lost.
func (c *checker) checkContainers(k *containers.ReadTx) {
	known := map[string]bool{}
	for _, image := range c.images {
		known[image.ID] = true
	}
	owners := c.owners()
	for _, container := range c.containers {
		o := Object{KindContainer, container.ID}
		if id := container.ImageID; id != "" && !known[id] && !c.unrecorded[Object{KindImage, id}] {
			c.add(o.Kind, o.ID, RemedyDelete, "image %s: image missing", id)
		}
		if id := container.LayerID; c.byID[id] == nil && !c.unrecorded[Object{KindLayer, id}] {
			c.add(o.Kind, o.ID, RemedyDelete, "layer %s: layer is missing", id)
		} else if owner := owners[id]; c.byID[id] != nil && owner != o {
			c.add(o.Kind, o.ID, RemedyDelete,
				"layer %s: it is the layer of %s, and would be deleted with the container", id,
				owner)
		}
		for _, key := range container.BigDataNames {
			size, err := k.ItemSize(container, key)
			c.checkItem(o, false, key, size, container.BigDataSizes, err)
		}
	}
}

// owners tells whose layer each is: of several containers, of the one whose image lies
// beneath. Where it lies beneath none of them the layer is that of the image whose top
// layer or copy of it it is, if any. An image may well be made of a container's layer,
// and doesn't own it.
func (c *checker) owners() map[string]Object {
	// a container without an image lies on nothing
	owners, beneath := map[string]Object{}, map[string][]string{"": {""}}
	for _, image := range c.images {
		beneath[image.ID] = append([]string{image.TopLayer}, image.MappedLayers...)
	}
	own := func(id string, by Object) {
		if owners[id].ID == "" {
			owners[id] = by
		}
	}
	for _, ours := range []bool{true, false} {
		for _, k := range c.containers {
			if layer := c.byID[k.LayerID]; layer != nil && slices.Contains(beneath[k.ImageID], layer.Parent) == ours {
				own(layer.ID, Object{KindContainer, k.ID})
			}
		}
		for _, image := range c.images {
			for _, id := range beneath[image.ID] {
				own(id, Object{KindImage, image.ID})
			}
		}
	}
	return owners
}

// item is a data item of an image or container, and what its owner's record says of it.
type item struct {
	owner    Object
	readOnly bool
	key      string
	path     string
	size     int64
	digest   digest.Digest
	// current tells the digest that is recorded now: a program may be changing the item.
	current func(context.Context) (digest.Digest, error)
}

// items are those whose file can have a name, which a finding tells of the others.
func (c *checker) items() (all []item) {
	for _, image := range c.images {
		for _, key := range image.BigDataNames {
			if path, err := c.Images.ItemPath(image, key); err == nil {
				all = append(all, item{Object{KindImage, image.ID}, image.ReadOnly, key, path, image.BigDataSizes[key],
					image.BigDataDigests[key], func(ctx context.Context) (d digest.Digest, err error) {
						return d, c.Images.View(ctx, func(tx *images.ReadTx) error {
							now, err := tx.Get(image.ID)
							d = now.BigDataDigests[key]
							return err
						})
					}})
			}
		}
	}
	for _, k := range c.containers {
		for _, key := range k.BigDataNames {
			if path, err := c.Containers.ItemPath(k, key); err == nil {
				all = append(all, item{Object{KindContainer, k.ID}, false, key, path, k.BigDataSizes[key],
					k.BigDataDigests[key], func(ctx context.Context) (d digest.Digest, err error) {
						return d, c.Containers.View(ctx, func(tx *containers.ReadTx) error {
							now, err := tx.Get(k.ID)
							d = now.BigDataDigests[key]
							return err
						})
					}})
			}
		}
	}
	return all
}

// damaged reports whether the item has the recorded size and another digest, and nobody
// has changed it meanwhile.
func (i item) damaged(ctx context.Context) (bool, error) {
	if i.digest == "" || i.digest.Validate() != nil || i.digest.Algorithm() != digest.SHA256 {
		return false, nil
	}
	if bad, err := i.differs(); err != nil || !bad {
		return false, err
	}
	now, err := i.current(ctx)
	if errors.Is(err, errdefs.ErrNotFound) || err == nil && now != i.digest {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return i.differs()
}

func (i item) differs() (bool, error) {
	data, err := readItem(i.path)
	if err != nil || int64(len(data)) != i.size { // sizes are looked at elsewhere
		return false, err
	}
	return i.digest.Algorithm().FromBytes(data) != i.digest && !ownDigest(i.key, data), nil
}

// noManifest says why other programs can't read the item as a manifest, or nil. A lost
// item is a finding of its own.
func (i item) noManifest() error {
	data, err := readItem(i.path)
	if err != nil || data == nil {
		return nil
	}
	return manifest.Check(data, nil)
}

// readItem reads a data item; nil for one that isn't there, is no file or is larger than
// any.
func readItem(path string) ([]byte, error) {
	dir, name := filepath.Split(path)
	home, owner := filepath.Split(filepath.Clean(dir))
	f, err := openat.Reader(home, filepath.Join(owner, name))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, errdefs.ErrCorrupt) {
			return nil, nil
		}
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > maxItem {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxItem))
}

// maxItem bounds, in bytes, what is read into memory of one data item to compare its
// digest.
const maxItem = 64 << 20

// ownDigest reports whether an item may have a digest that isn't that of its bytes: that
// of a signed Docker schema 1 manifest leaves the signatures out.
func ownDigest(key string, data []byte) bool {
	if !isManifest(key) {
		return false
	}
	var manifest struct {
		SchemaVersion int `json:"schemaVersion"`
	}
	return json.NewDecoder(bytes.NewReader(data)).Decode(&manifest) == nil && manifest.SchemaVersion == 1
}
