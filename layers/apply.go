package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/mount"
)

// Apply unpacks a tar onto the own content of a layer that exists, and returns the bytes
// of the files written.
//
// The work is done on a copy, aside, which then takes the content's place in one rename:
// after a crash the layer is as it was or as it was to be. Meanwhile the layer must stay
// as it is. Apply returns errdefs.ErrInUse if a layer above it is mounted, and
// errdefs.ErrBusy if it was changed or mounted while the tar was unpacked; nothing has
// happened to it then.
//
// A layer that is mounted itself is unpacked into through the mount, where its users see
// each file as it comes, and an error leaves some of the files.
func (s *Store) Apply(ctx context.Context, ref string, r io.Reader, progress func(read int64)) (int64, error) {
	var before Layer
	var untouched string
	mounted := 0
	err := s.View(ctx, func(tx *ReadTx) error {
		var err error
		if before, err = tx.Lookup(ref); err != nil {
			return err
		}
		if before.ReadOnly {
			return before.refuse()
		}
		if mounted, err = tx.Mounted(ctx, before.ID); err != nil {
			return err
		}
		if err := tx.CheckUnmounted(ctx, before.ID, mounted > 0); err != nil {
			return err
		}
		untouched, err = s.filesStamp(ctx, before.ID)
		return err
	})
	if err != nil {
		return 0, err
	}
	if mounted > 0 {
		return s.applyMounted(ctx, before, r, progress)
	}
	d, err := s.PrepareReplacement(ctx, before, drivers.StageOptions{Content: before.ID})
	if err != nil {
		return 0, fmt.Errorf("layer %s: %w", before.ID, err)
	}
	defer d.Close()
	if err := d.Fill(ctx, r, progress); err != nil {
		return 0, fmt.Errorf("layer %s: apply: %w", before.ID, err)
	}
	if err := d.Sync(ctx); err != nil {
		return 0, fmt.Errorf("layer %s: apply: %w", before.ID, err)
	}
	err = s.Update(ctx, func(tx *WriteTx) error {
		now, err := tx.Get(before.ID)
		if err != nil {
			return err
		}
		if err := tx.CheckUnmounted(ctx, now.ID, false); err != nil {
			return err
		}
		stamp, err := s.filesStamp(ctx, now.ID)
		if err != nil {
			return err
		}
		if stamp != untouched || now.DiffID != before.DiffID || now.Created != before.Created {
			return fmt.Errorf("changed while a diff was applied to it: %w", errdefs.ErrBusy)
		}
		return tx.replaceContent(ctx, d, now)
	})
	if err != nil {
		return 0, fmt.Errorf("layer %s: apply: %w", before.ID, err)
	}
	return d.result.ContentSize, nil
}

// filesStamp is another one after a layer's content was replaced, or it was mounted to be
// written to: see drivers.Measurer. It is "" where the driver can't tell.
func (s *Store) filesStamp(ctx context.Context, id string) (string, error) {
	if f, ok := s.driver.(drivers.Measurer); ok {
		return f.Stamp(ctx, id)
	}
	return "", nil
}

// PrepareReplacement stages new content for a layer that exists: a copy of what it has
// where opts.Content says so, else an empty directory, which Fill then takes only the tar
// for that the record has the digest of.
func (s *Store) PrepareReplacement(ctx context.Context, layer Layer, opts drivers.StageOptions) (*Draft, error) {
	d := &Draft{store: s, idMap: layer.Mapping(), lower: layer.Parent, opts: CreateOptions{ID: layer.ID}}
	if opts.Content == "" {
		d.opts.DiffID = layer.DiffID
	}
	opts.IDMap, opts.Replaces = d.idMap, layer.ID
	var err error
	if d.staged, err = s.driver.Stage(ctx, layer.Parent, opts); err != nil {
		return nil, err
	}
	step.Reached(ctx, "replacement staged")
	return d, nil
}

// replaceContent swaps the layer's content for the draft's. Two renames and a save can't
// be one step, so the record goes through a state that is true at every moment between
// them: content that nobody has described.
func (tx *WriteTx) replaceContent(ctx context.Context, d *Draft, layer Layer) error {
	layer, err := tx.clearDigests(layer)
	if err != nil {
		return err
	}
	step.Reached(ctx, "former digests forgotten")
	// From here on the change must come to its end, or as close as it gets.
	ctx, cancel := undoContext(ctx)
	defer cancel()
	if err := tx.DiscardIfThere(tx.store.TarSplit(Layer{ID: layer.ID})); err != nil {
		return err
	}
	step.Reached(ctx, "former tar-split file renamed away")
	if err := tx.swap(ctx, d, layer.ID); err != nil {
		return err
	}
	step.Reached(ctx, "content replaced")
	return tx.describe(ctx, d, layer)
}

// swap puts the draft in the place of the layer's content.
func (tx *WriteTx) swap(ctx context.Context, d *Draft, id string) error {
	trash, err := d.staged.Replace(ctx, id)
	if trash != nil {
		tx.trash = append(tx.trash, trash)
	}
	return err
}

// placeTarSplit gives the draft's tar-split file to the layer, durably.
func (tx *WriteTx) placeTarSplit(d *Draft, id string) error {
	if err := os.Rename(d.tarSplit, tx.store.TarSplit(Layer{ID: id})); err != nil {
		return err
	}
	return fsat.SyncDir(tx.store.cfg.Dir)
}

// clearDigests makes a layer one whose content nobody has described, and saves that.
func (tx *WriteTx) clearDigests(layer Layer) (Layer, error) {
	if layer.DiffID == "" && layer.TOCDigest == "" {
		return layer, nil
	}
	layer.clearDigests()
	if err := tx.records.Replace(layer); err != nil {
		return layer, err
	}
	return layer, tx.records.Save()
}

// describe puts the draft's tar-split file and digests in place, for content that is
// there already.
func (tx *WriteTx) describe(ctx context.Context, d *Draft, layer Layer) error {
	if err := tx.placeTarSplit(d, layer.ID); err != nil {
		return err
	}
	step.Reached(ctx, "new tar-split file in place")
	layer.setDigests(*d.result)
	layer.TOCDigest = ""
	if err := tx.records.Replace(layer); err != nil {
		return err
	}
	return tx.records.Save()
}

// Exchange puts a draft in the place of a layer's content and tar-split file. The file
// goes first: it is that of the same tar as the one before. gone tells that there is no
// content.
func (tx *WriteTx) Exchange(ctx context.Context, d *Draft, id string, gone bool) error {
	ctx, cancel := undoContext(ctx)
	defer cancel()
	tarSplit := tx.store.TarSplit(Layer{ID: id})
	if info, err := os.Lstat(tarSplit); err == nil && !info.Mode().IsRegular() {
		if err := tx.Discard(tarSplit); err != nil {
			return err
		}
	}
	if err := tx.placeTarSplit(d, id); err != nil {
		return err
	}
	step.Reached(ctx, "tar-split file renewed")
	if gone {
		return d.staged.Commit(ctx, id)
	}
	if err := tx.swap(ctx, d, id); err != nil {
		return err
	}
	step.Reached(ctx, "content renewed")
	return nil
}

// CheckUnmounted returns errdefs.ErrInUse if the layer, unless that doesn't matter, or
// any above it is mounted: their mounts hold the directory that is to be replaced. So do
// mounts that somebody has made within it, and it would take these away.
func (tx *ReadTx) CheckUnmounted(ctx context.Context, id string, itselfMay bool) error {
	mounted, err := tx.MountedLayers(ctx)
	if err != nil {
		return err
	}
	for _, m := range mounted {
		if m.ID == id && itselfMay {
			continue
		}
		chain, err := tx.Chain(m.ID)
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		if slices.ContainsFunc(chain, func(layer Layer) bool { return layer.ID == id }) {
			return errdefs.InUse{Kind: errdefs.Layer, ID: id, By: errdefs.Mount, ByID: m.ID}
		}
	}
	info, err := tx.store.driver.Stat(ctx, id)
	if err != nil {
		return nil // there is no content that something could be mounted in
	}
	points, err := mount.Below(filepath.Dir(info.Content))
	for _, point := range points {
		if strings.HasPrefix(point+"/", info.Content+"/") {
			return fmt.Errorf("layer %s: %w: something is mounted on %s", id, errdefs.ErrInUse, point)
		}
	}
	return err
}
