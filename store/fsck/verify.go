package fsck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/archive/verify"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"golang.org/x/sys/unix"
)

// verdict is what verify says about a layer's content.
type verdict struct {
	verify.Result
	// digest: the tar that comes out has another digest or size than the record says, and
	// no damaged file explains it.
	digest string
	// size is that of the tar in bytes, where the digest is that of the record and the
	// size isn't; else 0.
	size int64
	// exact: the tar can be put together with the digest that the record has, so the
	// content can be made anew from it.
	exact bool
}

func (v verdict) sound() bool { return len(v.Damages) == 0 && v.More == 0 && v.digest == "" }

// verify reads the whole content of a layer that came as a tar and compares it with the
// tar-split file and with the digest in the record. A layer without such a file is sound:
// nothing says what it should be.
//
// No lock is held meanwhile. A layer that is changed or deleted while it is read is
// looked at again, or is sound because it isn't there any more.
func (c *checker) verify(ctx context.Context, id string, progress func(read int64)) (verdict, error) {
	const tries = 3 // whoever changes a layer more often than that is at work on it
	for range tries {
		before, err := c.subject(ctx, id)
		if errors.Is(err, errdefs.ErrNotFound) {
			return verdict{}, nil
		}
		if err != nil {
			return verdict{}, fmt.Errorf("layer %s: %w", id, err)
		}
		v, err := c.compare(ctx, before, progress)
		before.close()
		if ctx.Err() != nil {
			return v, ctx.Err()
		}
		if err == nil && v.sound() {
			return v, nil
		}
		after, aerr := c.subject(ctx, id)
		if aerr == nil {
			after.close()
			if after.same(before) {
				return v, err
			}
		} else if !errors.Is(aerr, errdefs.ErrNotFound) {
			return verdict{}, fmt.Errorf("layer %s: %w", id, aerr)
		}
	}
	return verdict{}, nil
}

// subject is what has to be known of a layer to verify it, gathered under the lock, and
// enough to tell whether it has changed since.
type subject struct {
	layer    layers.Layer
	info     drivers.Info
	tarSplit *os.File
	beneath  []*os.File // tar-split files of the parents, the lowest first
	partial  bool       // one of them has none
	// The inodes of the files whose exchange means that the layer was changed.
	recorded, content unix.Stat_t
}

func (c *checker) subject(ctx context.Context, id string) (*subject, error) {
	sub := &subject{}
	err := c.Layers.Inspect(ctx, func(tx *layers.ReadTx) (err error) {
		if sub.layer, err = tx.Get(id); err != nil {
			return err
		}
		if sub.info, err = c.Driver.Stat(ctx, id); err != nil {
			return err
		}
		if sub.tarSplit, err = c.Layers.OpenTarSplit(sub.layer); err != nil {
			return err
		}
		if sub.tarSplit != nil {
			if err := unix.Fstat(int(sub.tarSplit.Fd()), &sub.recorded); err != nil {
				return err
			}
		}
		if err := unix.Lstat(sub.info.Content, &sub.content); err != nil {
			return &os.PathError{Op: "stat", Path: sub.info.Content, Err: err}
		}
		if _, stacks := c.Driver.(drivers.Upperdir); stacks {
			return nil
		}
		chain, err := tx.Chain(id)
		if err != nil {
			return err
		}
		for _, parent := range slices.Backward(chain[1:]) {
			f, err := c.Layers.OpenTarSplit(parent)
			if err != nil {
				return err
			}
			if f == nil {
				sub.partial = true
				break
			}
			sub.beneath = append(sub.beneath, f)
		}
		return nil
	})
	if err != nil {
		sub.close()
	}
	return sub, err
}

func (s *subject) close() {
	for _, f := range append(s.beneath, s.tarSplit) {
		if f != nil {
			f.Close()
		}
	}
}

func (s *subject) same(o *subject) bool {
	return s.layer.Created.Equal(o.layer.Created) && s.layer.DiffID == o.layer.DiffID &&
		s.layer.TOCDigest == o.layer.TOCDigest && s.recorded.Ino == o.recorded.Ino &&
		s.recorded.Size == o.recorded.Size &&
		s.recorded.Mtim == o.recorded.Mtim && s.content.Ino == o.content.Ino
}

// maxExcess is how far, in bytes, a tar may pass the size in the record: far enough to
// see whether it is the record that is wrong.
const maxExcess = 1 << 30

func (c *checker) compare(ctx context.Context, sub *subject, progress func(int64)) (v verdict, err error) {
	layer := sub.layer
	if sub.tarSplit == nil || !ownContent(sub.info) {
		return v, nil
	}
	apply, owner := c.Layers.Config().Apply, ownerOf(c.Layers.Config().Dir)
	how := verify.Options{
		Content:   append([]string{sub.info.Content}, sub.info.Lower...),
		Own:       append([]string{sub.info.Content}, generations(sub.info)...),
		Partial:   sub.partial,
		Whiteouts: apply.Whiteouts,
		IDMap:     layer.Mapping(),
		AnyOwner:  apply.IgnoreChownErrors || owner != os.Geteuid(),
		ForceMask: apply.ForceMask != nil,
		AnyTime:   c.Config.PullOptions.UseHardLinks, // files share their times with other layers'
		NoDevices: owner != 0,
		MaxBytes:  layer.DiffSize + maxExcess,
		Progress:  progress,
	}
	if !sub.partial {
		for _, f := range sub.beneath {
			how.Beneath = append(how.Beneath, f)
		}
	}
	if layer.DiffID == "" {
		how.MaxBytes = 0
	}
	if v.Result, err = verify.Layer(ctx, sub.tarSplit, how); err != nil {
		return v, fmt.Errorf("layer %s: verify: %w", layer.ID, err)
	}
	if !v.Exact() || layer.DiffID == "" {
		return v, nil
	}
	switch {
	case layer.DiffID.Validate() != nil:
		v.digest = fmt.Sprintf("%s instead of %q, which is no digest", v.DiffID, layer.DiffID)
	case layer.DiffID.Algorithm() != v.DiffID.Algorithm():
		v.exact = true // as far as we can tell
	case v.DiffID != layer.DiffID:
		v.digest = fmt.Sprintf("%s instead of %s", v.DiffID, layer.DiffID)
	case layer.DiffSize > 0 && layer.DiffSize != v.DiffSize:
		v.digest = fmt.Sprintf("%d bytes instead of %d", v.DiffSize, layer.DiffSize)
		v.size, v.exact = v.DiffSize, true
	default:
		v.exact = true
	}
	return v, nil
}

// ownContent is false for a layer whose files lie elsewhere, in an additional layer store
// or in a composefs image.
func ownContent(info drivers.Info) bool {
	return isDirectory(info.Content) && unix.Access(info.Content+"/../composefs-data", unix.F_OK) != nil
}

func isDirectory(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// generations are the older directories of a layer's own files.
func generations(info drivers.Info) (older []string) {
	for _, dir := range info.Lower {
		if filepath.Dir(dir) == filepath.Dir(info.Content) {
			older = append(older, dir)
		}
	}
	return older
}

// ownerOf returns who has made the store: who isn't the host's root couldn't make
// devices, and has written owners as the numbers of a user namespace that nobody else
// knows.
func ownerOf(dir string) (uid int) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return os.Geteuid()
	}
	return int(st.Uid)
}
