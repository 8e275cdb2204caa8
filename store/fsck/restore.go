package fsck

import (
	"context"
	"fmt"
	"slices"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// restore writes damaged data items again from others that have the same digest, and
// deletes the objects for which there are none.
func (r *repair) restore(ctx context.Context, findings []Finding) {
	var lost []Finding
	for _, f := range findings {
		from, err := r.restoreItem(ctx, f)
		switch {
		case err != nil:
			r.failed(f.Object, err)
		case from == "":
			lost = append(lost, f)
		default:
			r.did(f.Object, "restored the data item %q from %s", f.key, from)
		}
	}
	lost = slices.DeleteFunc(lost, func(f Finding) bool {
		f.Remedy = RemedyDelete
		return !r.canDo(f)
	})
	if len(lost) > 0 {
		r.delete(ctx, lost)
	}
}

// restoreItem looks for the item's content among all items of images and containers.
func (r *repair) restoreItem(ctx context.Context, f Finding) (from string, err error) {
	err = r.UpdateAll(ctx, func(_ *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		var want digest.Digest
		var write func(key string, data []byte) error
		switch f.Kind {
		case KindImage:
			image, err := i.Get(f.ID)
			if err != nil {
				return err
			}
			want = image.BigDataDigests[f.key]
			write = func(key string, data []byte) error {
				return i.SetBigData(f.ID, images.Item{Key: key, Data: data, Digest: want})
			}
		default:
			container, err := c.Get(f.ID)
			if err != nil {
				return err
			}
			want = container.BigDataDigests[f.key]
			write = func(key string, data []byte) error {
				return c.SetBigData(f.ID, containers.Item{Key: key, Data: data, Digest: want})
			}
		}
		if want == "" || want.Validate() != nil {
			return nil
		}
		data, where, err := findItem(want, i, c)
		if err != nil || where == "" {
			return err
		}
		from = where
		return write(f.key, data)
	})
	return from, err
}

// findItem returns a data item whose content has the digest, and where it was.
func findItem(want digest.Digest, i *images.WriteTx, c *containers.WriteTx) ([]byte, string, error) {
	type owner struct {
		Object
		digests map[string]digest.Digest
		read    func(id, key string) ([]byte, error)
	}
	var owners []owner
	allImages, err := i.All()
	if err != nil {
		return nil, "", err
	}
	for _, image := range allImages {
		owners = append(owners, owner{Object{KindImage, image.ID}, image.BigDataDigests, i.BigData})
	}
	allContainers, err := c.All()
	if err != nil {
		return nil, "", err
	}
	for _, container := range allContainers {
		owners = append(owners, owner{Object{KindContainer, container.ID}, container.BigDataDigests, c.BigData})
	}
	var unread error
	for _, o := range owners {
		for key, d := range o.digests {
			if d != want {
				continue
			}
			data, err := o.read(o.ID, key)
			if err == nil && want.Algorithm().FromBytes(data) == want {
				return data, fmt.Sprintf("%q of %s", key, o.Object), nil
			}
			if passing(err) {
				unread = err
			}
		}
	}
	return nil, "", unread
}
