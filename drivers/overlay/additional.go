package overlay

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/internal/files"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// LayerStore is an additional layer store: a file system, usually of a daemon that
// fetches what is read, that shows layers of images which nobody has unpacked here. A
// layer is a directory with diff/, its files; info, a record as in layers.json; and blob,
// the compressed tar.
type LayerStore struct {
	Path string
	// WithReference says that the layers are sorted by image: <path>/<base64 of the
	// image's reference>/<TOC digest> instead of <path>/<TOC digest>.
	WithReference bool
}

// LookupAdditional asks the layer stores one after the other. A store that doesn't answer
// as it should counts as one that doesn't have the layer.
func (d *Driver) LookupAdditional(ctx context.Context, toc digest.Digest,
	reference string) (drivers.AdditionalLayer, error) {
	if err := toc.Validate(); err != nil {
		return nil, fmt.Errorf("overlay: TOC digest %q: %w: %w", toc, errdefs.ErrInvalid, err)
	}
	for _, s := range d.opts.AdditionalLayerStores {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		dir := s.Path
		if s.WithReference {
			dir = filepath.Join(dir, base64.StdEncoding.EncodeToString([]byte(reference)))
		}
		layer := &additionalLayer{driver: d, dir: filepath.Join(dir, toc.String())}
		if layer.complete() {
			return layer, layer.use()
		}
	}
	return nil, fmt.Errorf("overlay: layer with TOC digest %s of %q: %w to the additional layer stores", toc, reference,
		errdefs.ErrNotFound)
}

// AdditionalOf finds the layer that a layer shows.
func (d *Driver) AdditionalOf(_ context.Context, id string) (_ drivers.AdditionalLayer, err error) {
	defer drivers.Describe(&err, Name)
	dir, _, err := d.homes.Find(id)
	if err != nil {
		return nil, err
	}
	shown, err := files.ReadAdditional(dir)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", id, err)
	}
	if shown == "" {
		return nil, fmt.Errorf("layer %s: %w to any additional layer store", id, errdefs.ErrNotFound)
	}
	layer := &additionalLayer{driver: d, dir: shown}
	return layer, layer.use()
}

// additionalLayer is a layer in use, until Release.
type additionalLayer struct {
	driver   *Driver
	dir      string
	released atomic.Bool
}

// complete looks at the parts in this order because stores prepare the layer when diff is
// looked up, and know what is in info only then.
func (l *additionalLayer) complete() bool {
	for _, name := range []string{"diff", "info", "blob"} {
		if unix.Access(filepath.Join(l.dir, name), unix.F_OK) != nil {
			return false
		}
	}
	return true
}

// use tells the store that the layer has one user more, by making a file named use. The
// store takes note and answers ENOENT. One that keeps no count makes the file, which then
// goes again, or refuses.
func (l *additionalLayer) use() error {
	path := filepath.Join(l.dir, "use")
	fd, err := openat.Create(unix.AT_FDCWD, path, unix.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(unix.Close(fd), os.Remove(path))
		if err != nil {
			return fmt.Errorf("overlay: additional layer %s: %w", l.dir, err)
		}
	}
	return nil
}

// Release tells the store that the layer has one user less, by removing its directory.
// The store answers ENOENT; one that keeps no count refuses.
func (l *additionalLayer) Release() {
	if !l.released.Swap(true) {
		release(l.dir)
	}
}

func release(dir string) { _ = unix.Rmdir(dir) }

// Info is the layer's record, as the store has it.
func (l *additionalLayer) Info() (io.ReadCloser, error) { return openat.Reader(l.dir, "info") }

// Blob is the layer's tar, compressed as a registry has it.
func (l *additionalLayer) Blob() (io.ReadCloser, error) { return openat.Reader(l.dir, "blob") }

// Stage stages a layer that shows this one: diff is a symlink into the store, and
// additionallayer names the user that the store has in the new layer.
func (l *additionalLayer) Stage(ctx context.Context, parent string) (drivers.Staged, error) {
	made, err := l.driver.Stage(ctx, parent, drivers.StageOptions{})
	if err != nil {
		return nil, err
	}
	s := &stagedAdditional{staged: made.(*staged), layer: &additionalLayer{driver: l.driver, dir: l.dir}}
	if err := s.point(); err != nil {
		return nil, errors.Join(fmt.Errorf("overlay: stage additional layer %s: %w", l.dir, err), s.staged.Discard())
	}
	return s, nil
}

type stagedAdditional struct {
	*staged
	layer     *additionalLayer
	committed bool
}

func (s *stagedAdditional) point() error {
	if err := os.Remove(s.staged.Content()); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(s.layer.dir, "diff"), s.staged.Content()); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(s.Path(), files.AdditionalFile), s.layer.dir); err != nil {
		return err
	}
	return s.layer.use()
}

// Content is where the staged layer itself lies: its files are in the store, and nothing
// is to be filled.
func (s *stagedAdditional) Content() string { return s.Path() }

// Commit makes the staged layer a user of the additional one.
func (s *stagedAdditional) Commit(ctx context.Context, id string) error {
	err := s.staged.Commit(ctx, id)
	s.committed = err == nil
	return err
}

// Discard takes the use back, unless a layer has taken it over.
func (s *stagedAdditional) Discard() error {
	if !s.committed {
		s.layer.Release()
	}
	return s.staged.Discard()
}

// Replace can't be had: the content of such a layer is the store's.
func (s *stagedAdditional) Replace(context.Context, string) (drivers.Trash, error) {
	return nil, fmt.Errorf("overlay: replace a layer's content with an additional layer: %w", errdefs.ErrUnsupported)
}

// releasing is the Trash of a layer that shows one of an additional layer store.
type releasing struct {
	drivers.Trash
	dirs []string
}

func (r releasing) Empty(ctx context.Context) error {
	for _, dir := range r.dirs {
		release(dir)
	}
	return r.Trash.Empty(ctx)
}
