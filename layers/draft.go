package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/naming"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
)

// Draft is a layer in the making, or new content for a layer that exists. Nobody else sees it. A Draft is used by one goroutine.
type Draft struct {
	store *Store
	opts  CreateOptions
	// record is what will be saved; its ID is settled on commit.
	record Layer
	// idMap is what is applied to owners while unpacking.
	idMap  idtools.Mapping
	staged drivers.Staged
	// aside holds the recipe and the data items; nil while there are none.
	aside    *tempdir.Dir
	tarSplit string // path within aside, or ""
	dataDir  string // path within aside, or ""
	result   *archive.ApplyResult
	placed   string // the ID whose files are in place while the record isn't known to be
}

// Prepare stages a layer on top of parent, nil for a base layer. opts.Parent isn't read: the caller has looked the parent up.
//
// A mapping other than the parent's is errdefs.ErrUnsupported.
func (s *Store) Prepare(ctx context.Context, parent *Layer, opts CreateOptions) (*Draft, error) {
	d := &Draft{store: s, opts: opts}
	if err := d.settleMapping(parent); err != nil {
		return nil, err
	}
	d.record = Layer{
		Names:      naming.Dedupe(opts.Names),
		Metadata:   opts.Metadata,
		MountLabel: opts.MountLabel,
		Flags:      opts.Flags,
		UIDMap:     d.idMap.UIDs,
		GIDMap:     d.idMap.GIDs,
	}
	if parent != nil {
		d.record.Parent = parent.ID
	}
	var err error
	d.staged, err = s.driver.Stage(ctx, d.record.Parent, drivers.StageOptions{
		Writable:   opts.Writable,
		IDMap:      d.idMap,
		MountLabel: opts.MountLabel,
	})
	if err != nil {
		return nil, err
	}
	step.Reached(ctx, "layer staged")
	if err := d.stageItems(opts.BigData); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// settleMapping decides how owners are translated: as asked for, else as the parent's are.
func (d *Draft) settleMapping(parent *Layer) error {
	m := d.opts.IDMap
	var under idtools.Mapping
	if parent != nil {
		under = parent.Mapping()
		if len(m.UIDs) == 0 {
			m.UIDs = under.UIDs
		}
		if len(m.GIDs) == 0 {
			m.GIDs = under.GIDs
		}
	}
	if d.opts.HostUIDMapping {
		m.UIDs = nil
	}
	if d.opts.HostGIDMapping {
		m.GIDs = nil
	}
	if parent != nil && !m.Equal(under) {
		return fmt.Errorf("layer on top of %s with another ID mapping than it has: %w", parent.ID, errdefs.ErrUnsupported)
	}
	d.idMap = m
	return nil
}

// Fill unpacks a tar, compressed or not, into the draft, and records its digests. It reads r to its end. When it fails the draft is good for
// nothing but Close.
func (d *Draft) Fill(ctx context.Context, r io.Reader, progress func(read int64)) error {
	path, err := d.addition()
	if err != nil {
		return err
	}
	// Readable too: where an entry of the tar replaces the file of an earlier one, Apply rewrites what it has recorded.
	recipe, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	opts := d.store.cfg.Apply
	opts.IDMap = d.idMap
	opts.Progress = progress
	result, err := archive.Apply(ctx, d.staged.Content(), r, recipe, opts)
	if cerr := recipe.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if want := d.opts.DiffID; want != "" && want.Algorithm() == digest.Canonical && want != result.DiffID {
		return fmt.Errorf("content has the digest %s, not %s: %w", result.DiffID, want, errdefs.ErrInvalid)
	}
	if original := d.opts.OriginalDigest; original != "" && original.Algorithm() == digest.Canonical {
		result.CompressedDigest = original
	}
	if d.opts.OriginalDigest != "" && d.opts.OriginalSize != nil {
		result.CompressedSize = *d.opts.OriginalSize
	}
	d.tarSplit, d.result = path, &result
	d.record.took(result)
	step.Reached(ctx, "layer filled")
	return nil
}

// stageItems writes the data items of a new layer aside.
func (d *Draft) stageItems(items []Item) error {
	for _, item := range items {
		name, err := bigdata.FileName(item.Key)
		if err != nil {
			return err
		}
		if d.dataDir == "" {
			dir, err := d.addition()
			if err != nil {
				return err
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			d.dataDir = dir
		}
		if err := copyToFile(filepath.Join(d.dataDir, name), item.Data); err != nil {
			return fmt.Errorf("data item %q: %w", item.Key, err)
		}
		if !slices.Contains(d.record.BigDataNames, item.Key) {
			d.record.BigDataNames = append(d.record.BigDataNames, item.Key)
		}
	}
	return nil
}

func copyToFile(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// addition is a path for something that will be renamed into the layers' directory.
func (d *Draft) addition() (string, error) {
	if d.aside == nil {
		aside, err := tempdir.New(d.store.tmp())
		if err != nil {
			return "", err
		}
		d.aside = aside
	}
	return d.aside.Addition(), nil
}

// Sync makes everything in the draft durable. What the kernel couldn't write is an error once and for all: the draft is lost then. A volatile
// layer needs no Sync.
func (d *Draft) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := fsat.SyncFS(d.staged.Content()); err != nil {
		return err
	}
	if d.aside != nil {
		same, err := sameFileSystem(d.staged.Content(), d.aside.Path())
		if err != nil {
			return err
		}
		if !same {
			if err := fsat.SyncFS(d.aside.Path()); err != nil {
				return err
			}
		}
	}
	step.Reached(ctx, "layer synced")
	return nil
}

// Close removes what is left of the draft: all of it, unless it was committed. It must not be called within a transaction. It pays no heed to the
// context that the draft was made with, and can be called again.
func (d *Draft) Close() error {
	err := errors.Join(d.withdraw(), d.staged.Discard())
	if d.aside != nil {
		err = errors.Join(err, d.aside.Close())
		d.aside = nil
	}
	return err
}
