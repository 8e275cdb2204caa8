package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/step"
)

// Source writes the uncompressed tar of a layer.
type Source func(ctx context.Context, w io.Writer) error

// Tar is the layer with this ID as a source. It serves for that layer itself as well, if
// only its files' attributes are damaged.
func (s *Store) Tar(id string) Source {
	return func(ctx context.Context, w io.Writer) error {
		plain := archive.Uncompressed
		return s.Diff(ctx, w, id, "", DiffOptions{Compression: &plain})
	}
}

// FilesTar is the tar that the layer's files make, whatever its recipe says. It is the
// layer's own if that was made in the same way, as those are that Podman and Buildah
// commit.
func (s *Store) FilesTar(id string) Source {
	return func(ctx context.Context, w io.Writer) error {
		c, err := s.comparison(ctx, id, "")
		if err != nil {
			return err
		}
		defer c.close()
		if c.recipe != nil {
			c.recipe.Close()
			c.recipe = nil
		}
		return c.write(ctx, w, DiffOptions{})
	}
}

// OtherTar is a layer of a read-only store as a source, even if one of the store's own
// has its ID. It gives the tar from its recipe only.
func (s *Store) OtherTar(layer Layer) Source {
	return func(ctx context.Context, w io.Writer) error {
		placer, ok := s.driver.(drivers.Placer)
		if !ok {
			return fmt.Errorf("layer %s: reading it in another store: %w by the driver", layer.ID,
				errdefs.ErrUnsupported)
		}
		recipe, err := openRecipe(s.recipeOf(layer))
		if err != nil {
			return err
		}
		if recipe == nil {
			return fmt.Errorf("layer %s: recipe: %w", layer.ID, errdefs.ErrNotFound)
		}
		defer recipe.Close()
		return archive.Replay(ctx, w, recipe, []string{placer.ContentIn(layer.Store(), layer.ID)})
	}
}

// Rebuild makes the content of a layer anew, from a source that gives the very tar that
// its record has the digest of. The work is done aside, without a lock; then the new
// content takes the place of the old in one rename. The record stays as it is, and at
// every moment in between it is true, or as untrue as it was.
//
// It returns errdefs.ErrInUse if the layer or one above it is mounted, errdefs.ErrInvalid
// if the source gives another tar or the record has no digest, and errdefs.ErrUnsupported
// for a copy of another layer with other owners.
func (s *Store) Rebuild(ctx context.Context, id string, from Source) error {
	if err := s.rebuild(ctx, id, from); err != nil {
		return fmt.Errorf("layer %s: rebuild: %w", id, err)
	}
	return nil
}

func (s *Store) rebuild(ctx context.Context, id string, from Source) error {
	var layer Layer
	var info drivers.Info
	gone, inGraphRoot := false, true // where writable layers are: an image store has those of the other kind
	err := s.View(ctx, func(tx *ReadTx) (err error) {
		if layer, err = tx.Get(id); err != nil {
			return err
		}
		file, err := tx.own.FileOf(id)
		if err != nil {
			return err
		}
		inGraphRoot = file != s.files.image
		if err := layer.DiffID.Validate(); err != nil {
			return fmt.Errorf("the digest of its tar isn't known: %w: %w", errdefs.ErrInvalid, err)
		}
		if err := tx.checkUnmounted(ctx, id, false); err != nil {
			return err
		}
		info, err = s.driver.Stat(ctx, id)
		if errors.Is(err, errdefs.ErrNotFound) {
			gone, err = true, nil
		} else if err == nil && (!isDirectory(info.Content) || s.elsewhere(id)) {
			gone = true
		}
		return err
	})
	if err != nil {
		return err
	}
	parent := layer.Parent
	if info.Remapped || info.Parent != "" && info.Parent != parent {
		return fmt.Errorf("a copy of another layer: %w", errdefs.ErrUnsupported)
	}
	d := &Draft{store: s, idMap: layer.Mapping(), opts: CreateOptions{ID: id, DiffID: layer.DiffID}}
	d.staged, err = s.driver.Stage(ctx, parent, drivers.StageOptions{Writable: inGraphRoot, IDMap: d.idMap,
		Replaces: id})
	if err != nil {
		return err
	}
	defer d.Close()
	step.Reached(ctx, "rebuilt layer staged")
	if err := fillFrom(ctx, d, from); err != nil {
		return err
	}
	if err := d.Sync(ctx); err != nil {
		return err
	}
	return s.Update(ctx, func(tx *WriteTx) error {
		now, err := tx.Get(id)
		if err != nil {
			return err
		}
		if now.DiffID != layer.DiffID || now.Parent != layer.Parent {
			return fmt.Errorf("changed meanwhile: %w", errdefs.ErrBusy)
		}
		if err := tx.checkUnmounted(ctx, id, false); err != nil {
			return err
		}
		return tx.exchange(ctx, d, id, gone)
	})
}

// fillFrom unpacks what a source gives, as it comes.
func fillFrom(ctx context.Context, d *Draft, from Source) error {
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := from(ctx, in)
		in.CloseWithError(err)
		written <- err
	}()
	err := d.Fill(ctx, out, nil)
	cancel()
	out.CloseWithError(errors.New("the layer couldn't be unpacked"))
	if werr := <-written; werr != nil && !errors.Is(werr, context.Canceled) {
		return werr
	}
	return err
}

// exchange puts a draft in the place of a layer's content and recipe. The recipe goes
// first: it is that of the same tar as the one before.
func (tx *WriteTx) exchange(ctx context.Context, d *Draft, id string, gone bool) error {
	ctx, cancel := undoContext(ctx)
	defer cancel()
	recipe := tx.store.tarSplitPath(id)
	if info, err := os.Lstat(recipe); err == nil && !info.Mode().IsRegular() {
		if err := tx.Discard(recipe); err != nil {
			return err
		}
	}
	if err := os.Rename(d.tarSplit, recipe); err != nil {
		return err
	}
	if err := fsat.SyncDir(tx.store.cfg.Dir); err != nil {
		return err
	}
	step.Reached(ctx, "recipe renewed")
	if gone {
		return d.staged.Commit(ctx, id)
	}
	trash, err := d.staged.Replace(ctx, id)
	if trash != nil {
		tx.trash = append(tx.trash, trash)
	}
	if err != nil {
		return err
	}
	step.Reached(ctx, "content renewed")
	return nil
}

func isDirectory(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}
