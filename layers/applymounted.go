package layers

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/step"
)

// applyMounted unpacks a tar into a layer through its mount, since what lies beneath a
// mount must not change but by it (Documentation/filesystems/overlayfs.rst, Changes to
// underlying filesystems). It is what "tar -x" in the mount would do, whiteouts apart: an
// error or a crash leaves some of the files. From the start on the layer is one whose
// content nobody has described, and at the end it has the digests and the tar-split file
// of this tar.
func (s *Store) applyMounted(ctx context.Context, layer Layer, r io.Reader,
	progress func(read int64)) (size int64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("layer %s: apply: %w", layer.ID, err)
		}
	}()
	// One user more, so that it stays mounted.
	path, err := s.Mount(ctx, layer.ID, drivers.MountOptions{})
	if err != nil {
		return 0, err
	}
	defer func() {
		undo, cancel := undoContext(ctx)
		defer cancel()
		_, uerr := s.Unmount(undo, layer.ID, false)
		err = errors.Join(err, uerr)
	}()
	info, err := s.driver.Stat(ctx, layer.ID)
	if err != nil {
		return 0, err
	}
	err = s.Update(ctx, func(tx *WriteTx) error {
		now, err := tx.Get(layer.ID)
		if err != nil {
			return err
		}
		if _, err = tx.clearDigests(now); err != nil {
			return err
		}
		return tx.DiscardIfThere(s.TarSplit(Layer{ID: layer.ID}))
	})
	if err != nil {
		return 0, err
	}
	step.Reached(ctx, "former digests forgotten, of a mounted layer")
	d := &Draft{store: s, idMap: layer.Mapping(), staged: mountedContent{path: path}}
	defer d.Close()
	if err := d.unpack(ctx, r, progress, archive.RemoveWhiteouts); err != nil {
		return 0, err
	}
	if err := d.Sync(ctx); err != nil {
		return 0, err
	}
	if err := fsat.SyncFS(info.Content); err != nil { // a volatile mount passes no sync on
		return 0, err
	}
	err = s.Update(ctx, func(tx *WriteTx) error {
		now, err := tx.Get(layer.ID)
		if err != nil {
			return err
		}
		if now.Created != layer.Created || now.DiffID != "" {
			return fmt.Errorf("changed while a diff was applied to it: %w", errdefs.ErrBusy)
		}
		return tx.describe(ctx, d, now)
	})
	return d.result.ContentSize, err
}

// mountedContent stands for a staged layer where a mounted one is filled, which is never
// committed.
type mountedContent struct {
	drivers.Staged
	path string
}

func (m mountedContent) Content() string { return m.path }

func (m mountedContent) Discard() error { return nil }
