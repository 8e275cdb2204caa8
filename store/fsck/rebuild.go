package fsck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"golang.org/x/sys/unix"
)

// rebuild unpacks layers anew whose content is damaged, and deletes those for which there
// is no tar.
func (r *repair) rebuild(ctx context.Context, findings []Finding) {
	var lost []Finding
	for _, f := range r.baseFirst(ctx, findings) {
		exact := slices.ContainsFunc(findings, func(other Finding) bool { return other.ID == f.ID && other.exact })
		from, err := r.rebuildLayer(ctx, f.ID, exact)
		switch {
		case err == nil && from != "":
			r.did(f.Object, "unpacked anew from %s", from)
		case ctx.Err() != nil:
			return
		case passing(err):
			r.failed(f.Object, err)
		default:
			lost = append(lost, f)
		}
	}
	if len(lost) > 0 {
		r.delete(ctx, lost)
	}
}

// rebuildLayer tries all that can give the layer's tar, and returns which of them did. No
// error and "" is returned when none could.
func (r *repair) rebuildLayer(ctx context.Context, id string, exact bool) (from string, err error) {
	sources, err := r.sources(ctx, id, exact)
	if err != nil {
		return "", err
	}
	for _, source := range sources {
		failed := r.rebuildFrom(ctx, id, source.write)
		if failed == nil {
			return source.name, nil
		}
		if passing(failed) || ctx.Err() != nil || errors.Is(failed, errdefs.ErrUnsupported) {
			err = fmt.Errorf("layer %s: rebuild: %w", id, failed)
		}
		if errors.Is(failed, errdefs.ErrInUse) || err != nil && !passing(err) {
			break
		}
	}
	return "", err
}

// passing reports whether an error says nothing of what is to be repaired: the disk is
// full or broken, too much is open, or the object is in use. It may well be over the next
// time, and is no reason to delete anything.
func passing(err error) bool {
	return slices.ContainsFunc([]error{errdefs.ErrInUse, errdefs.ErrBusy, unix.ENOSPC, unix.EDQUOT, unix.EIO,
		unix.EROFS, unix.EMFILE, unix.ENFILE, unix.ENOMEM}, func(class error) bool { return errors.Is(err, class) })
}

// source is where a layer's uncompressed tar may be had.
type source struct {
	name  string
	write func(context.Context, io.Writer) error
}

// sources lists them: the layer itself, if only attributes of its files are damaged, all
// layers that have its digest, and what the layer's files make.
func (r *repair) sources(ctx context.Context, id string, exact bool) (all []source, err error) {
	tarOf := func(id string, fromFiles bool) func(context.Context, io.Writer) error {
		return func(ctx context.Context, w io.Writer) error {
			plain := compress.None
			return r.Layers.Diff(ctx, w, id, "", layers.DiffOptions{Compression: &plain, FromFiles: fromFiles})
		}
	}
	if exact {
		all = append(all, source{"its own tar", tarOf(id, false)})
	}
	var twins []layers.Layer
	err = r.Layers.View(ctx, func(tx *layers.ReadTx) error {
		layer, err := tx.Get(id)
		if err != nil {
			return err
		}
		twins, err = tx.ByDiffID(layer.DiffID)
		return err
	})
	for _, twin := range twins {
		switch {
		case twin.ReadOnly: // it may have the very ID
			all = append(all, source{fmt.Sprintf("layer %s of the store %s", twin.ID, twin.Store()), r.otherTar(twin)})
		case twin.ID != id:
			all = append(all, source{"layer " + twin.ID, tarOf(twin.ID, false)})
		}
	}
	if !exact {
		all = append(all, source{"its files", tarOf(id, true)})
	}
	return all, err
}

// otherTar writes the tar of a layer of a read-only store, even if one of the store's own
// has its ID, from its tar-split file only.
func (r *repair) otherTar(layer layers.Layer) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		examiner, ok := r.Driver.(drivers.Measurer)
		if !ok {
			return fmt.Errorf("layer %s: reading it in another store: %w by the driver", layer.ID,
				errdefs.ErrUnsupported)
		}
		tarSplit, err := r.Layers.OpenTarSplit(layer)
		if err != nil {
			return err
		}
		if tarSplit == nil {
			return fmt.Errorf("layer %s: tar-split file: %w", layer.ID, errdefs.ErrNotFound)
		}
		defer tarSplit.Close()
		return tarsplit.Replay(ctx, w, tarSplit, []string{examiner.ContentIn(layer.Store(), layer.ID)})
	}
}

// rebuildFrom makes the content of a layer anew, from a source that gives the very tar
// that its record has the digest of. The work is done aside, without a lock; then the new
// content takes the place of the old in one rename. The record stays as it is, and at
// every moment in between it is true, or as untrue as it was.
//
// It returns errdefs.ErrInUse if the layer or one above it is mounted, errdefs.ErrInvalid
// if the source gives another tar or the record has no digest, and errdefs.ErrUnsupported
// for a copy of another layer with other owners.
func (r *repair) rebuildFrom(ctx context.Context, id string, write func(context.Context, io.Writer) error) error {
	c := checker{Roots: r.Roots}
	var layer layers.Layer
	var info drivers.Info
	gone, writable := false, true // where writable layers are: an image store has those of the other kind
	err := r.Layers.View(ctx, func(tx *layers.ReadTx) (err error) {
		if layer, err = tx.Get(id); err != nil {
			return err
		}
		writable = !tx.InImageStore(id)
		if err := layer.DiffID.Validate(); err != nil {
			return fmt.Errorf("the digest of its tar isn't known: %w: %w", errdefs.ErrInvalid, err)
		}
		if err := tx.CheckUnmounted(ctx, id, false); err != nil {
			return err
		}
		info, err = r.Driver.Stat(ctx, id)
		if errors.Is(err, errdefs.ErrNotFound) {
			gone, err = true, nil
		} else if err == nil && (!isDirectory(info.Content) || c.elsewhere(id)) {
			gone = true
		}
		return err
	})
	if err != nil {
		return err
	}
	if info.Remapped || info.Parent != "" && info.Parent != layer.Parent {
		return fmt.Errorf("a copy of another layer: %w", errdefs.ErrUnsupported)
	}
	d, err := r.Layers.PrepareReplacement(ctx, layer, drivers.StageOptions{Writable: writable})
	if err != nil {
		return err
	}
	defer d.Close()
	if err := fillFrom(ctx, d, write); err != nil {
		return err
	}
	if err := d.Sync(ctx); err != nil {
		return err
	}
	return r.Layers.Update(ctx, func(tx *layers.WriteTx) error {
		now, err := tx.Get(id)
		if err != nil {
			return err
		}
		if now.DiffID != layer.DiffID || now.Parent != layer.Parent {
			return fmt.Errorf("changed meanwhile: %w", errdefs.ErrBusy)
		}
		if err := tx.CheckUnmounted(ctx, id, false); err != nil {
			return err
		}
		return tx.Exchange(ctx, d, id, gone)
	})
}

// fillFrom unpacks what a source writes, as it comes.
func fillFrom(ctx context.Context, d *layers.Draft, write func(context.Context, io.Writer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(ctx, in)
		in.CloseWithError(err)
		written <- err
	}()
	err := d.Fill(ctx, out, nil)
	cancel()
	out.CloseWithError(errUnpacking)
	if werr := <-written; werr != nil && !errors.Is(werr, context.Canceled) && !errors.Is(werr, errUnpacking) {
		return werr
	}
	return err
}

// errUnpacking is what a source hears when its tar couldn't be unpacked. The cause is
// with the reader.
var errUnpacking = errors.New("the layer couldn't be unpacked")
