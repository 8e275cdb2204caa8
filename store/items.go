package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"golang.org/x/sys/unix"
)

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

func imageItems(s *images.Store, image images.Image) (all []item) {
	for _, key := range image.BigDataNames {
		path, err := s.ItemPath(image, key)
		if err != nil {
			continue // no file can have that name, which the survey says
		}
		all = append(all, item{
			owner: Object{KindImage, image.ID}, readOnly: image.ReadOnly, key: key, path: path,
			size: image.BigDataSizes[key], digest: image.BigDataDigests[key],
			current: func(ctx context.Context) (d digest.Digest, err error) {
				err = s.View(ctx, func(tx *images.ReadTx) error {
					now, err := tx.Get(image.ID)
					d = now.BigDataDigests[key]
					return err
				})
				return d, err
			},
		})
	}
	return all
}

func containerItems(s *containers.Store, container containers.Container) (all []item) {
	for _, key := range container.BigDataNames {
		path, err := s.ItemPath(container.ID, key)
		if err != nil {
			continue
		}
		all = append(all, item{
			owner: Object{KindContainer, container.ID}, key: key, path: path,
			size: container.BigDataSizes[key], digest: container.BigDataDigests[key],
			current: func(ctx context.Context) (d digest.Digest, err error) {
				err = s.View(ctx, func(tx *containers.ReadTx) error {
					now, err := tx.Get(container.ID)
					d = now.BigDataDigests[key]
					return err
				})
				return d, err
			},
		})
	}
	return all
}

// items compares data items with their recorded digests.
func (r *reading) items(ctx context.Context, all []item) error {
	for _, i := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		bad, err := i.damaged(ctx)
		if err != nil {
			return err
		}
		if bad {
			r.badItem(i)
		}
	}
	return nil
}

func (r *reading) badItem(i item) {
	remedy := RemedyRestore
	if r.opts.hopeless[i.owner] {
		remedy = RemedyDelete
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.report.add(i.owner.Kind, i.owner.ID, remedy, "%s",
		describeItem(i.key, "%s data item has another content than was recorded", i.owner.Kind))
	f.key = i.key
	f.inOther(i.readOnly)
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
	if err != nil || int64(len(data)) != i.size { // the survey has an eye on sizes
		return false, err
	}
	return i.digest.Algorithm().FromBytes(data) != i.digest && !ownDigest(i.key, data), nil
}

// readItem reads a data item; nil for one that isn't there, is no file or is larger than
// any.
func readItem(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ELOOP) {
			return nil, nil
		}
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxItem {
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
	if !strings.HasPrefix(key, "manifest") {
		return false
	}
	var manifest struct {
		SchemaVersion int `json:"schemaVersion"`
	}
	return json.NewDecoder(bytes.NewReader(data)).Decode(&manifest) == nil && manifest.SchemaVersion == 1
}
