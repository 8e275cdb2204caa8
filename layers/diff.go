package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/openat"
)

// DiffOptions says how a diff is written.
type DiffOptions struct {
	// Compression overrides the compression the layer was applied with, which is the
	// default.
	Compression *compress.Kind
	// Progress is called now and then with the uncompressed bytes written so far; nil for
	// none.
	Progress func(written int64)
	// FromFiles writes what the layer's files make, whatever its tar-split file says.
	// That is the layer's own tar if it was made in the same way, as those are that
	// Podman and Buildah commit.
	FromFiles bool
	// LeaveOut is told of files whose names would be read as whiteouts, which then stay
	// out of the tar; with nil they are errdefs.ErrInvalid. A layer's own tar has none.
	LeaveOut func(path string)
}

// Diff writes the tar that turns layer from into layer to. With from "" that is the
// layer's parent; a layer that came as a tar is then written as the same bytes again,
// from its tar-split file, and compressed as it was or as opts says.
//
// No lock is held while bytes flow. If the layer is deleted or changed meanwhile, Diff
// fails with errdefs.ErrBusy after it has written something; a file that no longer has
// the content the tar-split file was made from is errdefs.ErrCorrupt.
func (s *Store) Diff(ctx context.Context, w io.Writer, to, from string, opts DiffOptions) error {
	c, err := s.comparison(ctx, to, from)
	if err != nil {
		return err
	}
	defer c.close()
	compression := c.to.Compression
	if opts.Compression != nil {
		compression = *opts.Compression
	}
	if c.from.ID == c.to.Parent {
		blob, release, err := s.additionalBlob(ctx, c.to.ID)
		if err != nil {
			return fmt.Errorf("layer %s: diff: %w", c.to.ID, err)
		}
		if blob != nil {
			defer release()
			if err := c.writeBlob(ctx, w, blob, compression, opts); err != nil {
				return fmt.Errorf("layer %s: diff: %w", c.to.ID, err)
			}
			return nil
		}
	}
	compressed, err := compress.NewWriter(w, compression)
	if err != nil {
		return fmt.Errorf("layer %s: diff: %w", c.to.ID, err)
	}
	err = c.write(ctx, compressed, opts)
	if cerr := compressed.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.stillThere(ctx, c.to)
	}
	if err != nil {
		return fmt.Errorf("layer %s: diff: %w", c.to.ID, err)
	}
	return nil
}

// Changes lists what layer to has changed against layer from, or against its parent when
// from is "".
func (s *Store) Changes(ctx context.Context, to, from string) ([]diff.Change, error) {
	c, err := s.comparison(ctx, to, from)
	if err != nil {
		return nil, err
	}
	defer c.close()
	changes, err := c.files().Changes(ctx)
	if err == nil {
		err = s.stillThere(ctx, c.to)
	}
	if err != nil {
		return nil, fmt.Errorf("layer %s: changes: %w", c.to.ID, err)
	}
	return changes, nil
}

// comparison is what has to be known to compare two layers. It is gathered under the lock
// and used without it.
type comparison struct {
	store    *Store
	driver   drivers.Driver
	to       Layer
	from     Layer // without ID when to is compared with nothing
	info     drivers.Info
	tarSplit *os.File // of to, or nil; of use against the parent only

	toShift, fromShift idtools.Mapping // what mounting them has to translate
}

func (s *Store) comparison(ctx context.Context, to, from string) (*comparison, error) {
	c := &comparison{store: s, driver: s.driver}
	err := s.View(ctx, func(tx *ReadTx) (err error) {
		if c.to, err = tx.Lookup(to); err != nil {
			return err
		}
		if from == "" {
			from = c.to.Parent
		}
		if from != "" {
			if c.from, err = tx.Lookup(from); err != nil {
				return err
			}
		}
		if c.info, err = s.driver.Stat(ctx, c.to.ID); err != nil {
			return err
		}
		if c.toShift, err = tx.shift(c.to, c.info, c.to.Mapping()); err != nil {
			return err
		}
		if c.fromShift, err = tx.ownShift(ctx, c.from); err != nil {
			return err
		}
		if c.from.ID == c.to.Parent {
			c.tarSplit, err = s.OpenTarSplit(c.to)
		}
		return err
	})
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// OpenTarSplit opens a layer's tar-split file; nil if it has none.
func (s *Store) OpenTarSplit(layer Layer) (*os.File, error) {
	dir, name := filepath.Split(s.TarSplit(layer))
	f, err := openat.Reader(dir, name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

func (c *comparison) close() {
	if c.tarSplit != nil {
		c.tarSplit.Close()
	}
}

func (c *comparison) write(ctx context.Context, w io.Writer, opts DiffOptions) error {
	if c.tarSplit != nil && !opts.FromFiles {
		w = &meter{w: w, report: opts.Progress}
		return tarsplit.Replay(ctx, w, c.tarSplit, append([]string{c.info.Content}, c.info.Lower...))
	}
	files := c.files()
	files.Options.Progress, files.Options.LeaveOut = opts.Progress, opts.LeaveOut
	return files.WriteTar(ctx, w)
}

// files is the comparison of what the driver keeps, with each layer as its record tells
// it: owners on disk become the container's.
func (c *comparison) files() Comparison {
	return Comparison{
		Driver: c.driver, To: c.to.ID, From: c.from.ID, Info: c.info,
		MountTo:   drivers.MountOptions{Label: c.to.MountLabel, IDMap: c.toShift},
		MountFrom: drivers.MountOptions{Label: c.from.MountLabel, IDMap: c.fromShift},
		Options: diff.Options{
			IDMap:        c.to.Mapping(),
			OldIDMap:     c.from.Mapping(),
			OverrideStat: c.store.cfg.Apply.ForceMask != nil,
		},
		Temp: c.store.tmp(),
	}
}

// stillThere makes sure that what was read without a lock belonged together.
func (s *Store) stillThere(ctx context.Context, layer Layer) error {
	return s.View(ctx, func(tx *ReadTx) error {
		now, err := tx.Get(layer.ID)
		if errors.Is(err, errdefs.ErrNotFound) || err == nil &&
			(now.Created != layer.Created || now.DiffID != layer.DiffID) {
			return fmt.Errorf("deleted or changed while it was read: %w", errdefs.ErrBusy)
		}
		return err
	})
}

// meter reports what passes through.
type meter struct {
	w      io.Writer
	n      int64
	report func(int64)
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.n += int64(n)
	if m.report != nil {
		m.report(m.n)
	}
	return n, err
}
