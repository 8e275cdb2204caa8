package layers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// Verdict is what Verify says about a layer's content.
type Verdict struct {
	// Damages are the files that differ from the layer's tar.
	Damages []archive.Damage
	// More is how many there are beyond those listed.
	More int
	// Digest: the tar that comes out has another digest or size than the record says, and
	// no damaged file explains it.
	Digest string
	// Size is that of the tar in bytes, where the digest is that of the record and the
	// size isn't; else 0.
	Size int64
	// Exact: the tar can be put together with the digest that the record has, so the
	// content can be made anew from it.
	Exact bool
}

// Sound reports whether nothing is wrong.
func (v Verdict) Sound() bool {
	return len(v.Damages) == 0 && v.More == 0 && v.Digest == ""
}

// VerifyOptions leaves out of a verification what the settings of the store explain.
type VerifyOptions struct {
	// AnyTime: files may be shared with other layers, and their times with them.
	AnyTime bool
	// Progress is called now and then with the bytes of the tar read so far; nil for
	// none.
	Progress func(read int64)
}

// Verify reads the whole content of a layer that came as a tar and compares it with the
// recipe of that tar and with the digest in the record. A layer without a recipe is
// sound: nothing says what it should be.
//
// No lock is held meanwhile. A layer that is changed or deleted while it is read is
// looked at again, or is sound because it isn't there any more.
func (s *Store) Verify(ctx context.Context, id string, opts VerifyOptions) (Verdict, error) {
	const tries = 3 // whoever changes a layer more often than that is at work on it
	for range tries {
		before, err := s.subject(ctx, id)
		if errors.Is(err, errdefs.ErrNotFound) {
			return Verdict{}, nil
		}
		if err != nil {
			return Verdict{}, fmt.Errorf("layer %s: %w", id, err)
		}
		verdict, err := s.verify(ctx, before, opts)
		before.close()
		if ctx.Err() != nil {
			return verdict, ctx.Err()
		}
		if err == nil && verdict.Sound() {
			return verdict, nil
		}
		after, aerr := s.subject(ctx, id)
		if aerr == nil {
			after.close()
			if after.same(before) {
				return verdict, err
			}
		} else if !errors.Is(aerr, errdefs.ErrNotFound) {
			return Verdict{}, fmt.Errorf("layer %s: %w", id, aerr)
		}
	}
	return Verdict{}, nil
}

// subject is what has to be known of a layer to verify it, gathered under the lock, and
// enough to tell whether it has changed since.
type subject struct {
	layer   Layer
	info    drivers.Info
	recipe  *os.File
	beneath []*os.File // recipes of the parents, the lowest first; nil when one has none
	partial bool
	marks   []unix.Stat_t
}

func (s *Store) subject(ctx context.Context, id string) (*subject, error) {
	sub := &subject{}
	err := s.Inspect(ctx, func(tx *ReadTx) (err error) {
		if sub.layer, err = tx.Get(id); err != nil {
			return err
		}
		if sub.info, err = s.driver.Stat(ctx, id); err != nil {
			return err
		}
		if sub.recipe, err = openRecipe(s.recipeOf(sub.layer)); err != nil {
			return err
		}
		if err := sub.mark(); err != nil {
			return err
		}
		if _, stacks := s.driver.(drivers.Upperdir); stacks {
			return nil
		}
		chain, err := tx.Chain(id)
		if err != nil {
			return err
		}
		for _, parent := range slices.Backward(chain[1:]) {
			f, err := openRecipe(s.recipeOf(parent))
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
	for _, f := range append(s.beneath, s.recipe) {
		if f != nil {
			f.Close()
		}
	}
}

// mark remembers the files whose exchange means that the layer was changed.
func (s *subject) mark() error {
	var st unix.Stat_t
	if s.recipe != nil {
		if err := unix.Fstat(int(s.recipe.Fd()), &st); err != nil {
			return err
		}
	}
	s.marks = append(s.marks, st)
	var dir unix.Stat_t
	if err := unix.Lstat(s.info.Content, &dir); err != nil {
		return &os.PathError{Op: "stat", Path: s.info.Content, Err: err}
	}
	s.marks = append(s.marks, dir)
	return nil
}

func (s *subject) same(o *subject) bool {
	r, p := s.marks[0], o.marks[0]
	return s.layer.Created.Equal(o.layer.Created) && s.layer.DiffID == o.layer.DiffID &&
		s.layer.TOCDigest == o.layer.TOCDigest &&
		r.Ino == p.Ino && r.Size == p.Size && r.Mtim == p.Mtim && s.marks[1].Ino == o.marks[1].Ino
}

// maxExcess is how far, in bytes, a tar may pass the size in the record: far enough to
// see whether it is the record that is wrong.
const maxExcess = 1 << 30

func (s *Store) verify(ctx context.Context, sub *subject, opts VerifyOptions) (Verdict, error) {
	var verdict Verdict
	layer := sub.layer
	if sub.recipe == nil || !ownContent(sub.info) {
		return verdict, nil
	}
	apply, owner := s.cfg.Apply, ownerOf(s.cfg.Dir)
	how := archive.VerifyOptions{
		Content:   append([]string{sub.info.Content}, sub.info.Lower...),
		Own:       append([]string{sub.info.Content}, generations(sub.info)...),
		Partial:   sub.partial,
		Whiteouts: apply.Whiteouts,
		IDMap:     layer.Mapping(),
		AnyOwner:  apply.IgnoreChownErrors || owner != os.Geteuid(),
		ForceMask: apply.ForceMask != nil,
		AnyTime:   opts.AnyTime,
		NoDevices: owner != 0,
		MaxBytes:  layer.DiffSize + maxExcess,
		Progress:  opts.Progress,
	}
	if !sub.partial {
		for _, f := range sub.beneath {
			how.Beneath = append(how.Beneath, f)
		}
	}
	if layer.DiffID == "" {
		how.MaxBytes = 0
	}
	v, err := archive.Verify(ctx, sub.recipe, how)
	if err != nil {
		return verdict, fmt.Errorf("layer %s: verify: %w", layer.ID, err)
	}
	verdict.Damages, verdict.More = v.Damages, v.More
	if v.Exact() && layer.DiffID != "" {
		switch {
		case layer.DiffID.Validate() != nil:
			verdict.Digest = fmt.Sprintf("%s instead of %q, which is no digest", v.DiffID, layer.DiffID)
		case layer.DiffID.Algorithm() != v.DiffID.Algorithm():
			verdict.Exact = true // as far as we can tell
		case v.DiffID != layer.DiffID:
			verdict.Digest = fmt.Sprintf("%s instead of %s", v.DiffID, layer.DiffID)
		case layer.DiffSize > 0 && layer.DiffSize != v.DiffSize:
			verdict.Digest = fmt.Sprintf("%d bytes instead of %d", v.DiffSize, layer.DiffSize)
			verdict.Size, verdict.Exact = v.DiffSize, true
		default:
			verdict.Exact = true
		}
	}
	return verdict, nil
}

// ownContent is false for a layer whose files lie elsewhere, in an additional layer store
// or in a composefs image.
func ownContent(info drivers.Info) bool {
	var st unix.Stat_t
	if err := unix.Lstat(info.Content, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false
	}
	return unix.Access(info.Content+"/../composefs-data", unix.F_OK) != nil
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
