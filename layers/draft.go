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
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/naming"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
	"golang.org/x/sys/unix"
)

// Draft is a layer in the making, or new content for a layer that exists. Nobody else
// sees it. A Draft is used by one goroutine.
//
// What is in it must be durable before a record tells of it. Sync is right for new
// content of a layer that exists, and always safe. SyncOrPostpone is for one new layer:
// it leaves a small one to the save of its record, which then costs two syncs in all.
// SyncTogether is for the layers of an image, filled side by side and added in one
// transaction: one sync for all.
type Draft struct {
	store *Store
	opts  CreateOptions
	// record is what will be saved; its ID is settled on commit.
	record Layer
	// idMap is what is applied to owners while unpacking.
	idMap idtools.Mapping
	// lower is the layer that the draft lies on, lowerMapping the mapping of that, and
	// lowerDraft what it lies on if that is a draft too.
	lower        string
	lowerMapping idtools.Mapping
	lowerDraft   *Draft
	staged       drivers.Staged
	// aside holds the tar-split file and the data items; nil while there are none.
	aside    *tempdir.Dir
	tarSplit string // path within aside, or ""
	dataDir  string // path within aside, or ""
	result   *apply.Result
	// whiteouts is the form in which those of the tar were written down.
	whiteouts archive.WhiteoutForm
	placed    string // the ID whose files are in place while the record isn't known to be
	// unsynced leaves all syncing to the save of the record, which syncs the whole file
	// system by the syncer, or to nobody for a volatile layer.
	unsynced bool
	syncer   *fsat.Syncer
	behind   *writeBehind // nil until Fill, unless drafts are stacked
}

// Prepare stages a layer on top of parent, nil for a base layer. opts.Parent isn't read:
// the caller has looked the parent up.
//
// Where the layer's mapping isn't the parent's, the owners of everything beneath are
// translated into a copy of it, which takes minutes for a big parent;
// errdefs.ErrUnsupported where the driver can't. With opts.Shift nothing is copied.
func (s *Store) Prepare(ctx context.Context, parent *Layer, opts CreateOptions) (*Draft, error) {
	return s.prepare(ctx, parent, nil, opts)
}

// prepare is Prepare, on top of a draft where below isn't nil, of whose record parent is
// a copy then.
func (s *Store) prepare(ctx context.Context, parent *Layer, below *Draft, opts CreateOptions) (*Draft, error) {
	d := &Draft{store: s, opts: opts, lowerDraft: below}
	if err := d.settleMapping(ctx, parent); err != nil {
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
		d.record.Parent, d.lower = parent.ID, parent.ID
	}
	stage := drivers.StageOptions{Writable: opts.Writable, IDMap: d.idMap}
	if opts.Writable {
		stage.Limits = &opts.Limits
	}
	if opts.Shift {
		stage.IDMap, stage.Shift = idtools.Mapping{}, d.idMap
	}
	if err := d.stage(ctx, stage); err != nil {
		return nil, err
	}
	if err := d.stageItems(opts.BigData); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// PrepareCopy stages a copy of template in which all owners are those of mapping to. It
// has template's parent, digests and tar-split file, and stands for it wherever a layer
// with this mapping is needed.
func (s *Store) PrepareCopy(ctx context.Context, template Layer, to idtools.Mapping) (*Draft, error) {
	d := &Draft{store: s, idMap: to, lowerMapping: template.Mapping(), lower: template.ID}
	d.record = template
	d.record.ID, d.record.Names, d.record.Flags, d.record.BigDataNames = "", nil, nil, nil
	d.record.ReadOnly, d.record.home = false, ""
	d.record.UIDMap, d.record.GIDMap = to.UIDs, to.GIDs
	if err := d.stage(ctx, drivers.StageOptions{IDMap: to}); err != nil {
		return nil, fmt.Errorf("copy of layer %s: %w", template.ID, err)
	}
	if err := d.copyTarSplit(template); err != nil {
		return nil, errors.Join(fmt.Errorf("copy of layer %s: %w", template.ID, err), d.Close())
	}
	return d, nil
}

// stage has the driver make the layer's directory, with the owners it shall have.
func (d *Draft) stage(ctx context.Context, opts drivers.StageOptions) (err error) {
	if d.lowerDraft != nil {
		return d.stageOn(ctx, opts)
	}
	if d.staged, err = d.store.driver.Stage(ctx, d.lower, opts); err != nil {
		return err
	}
	step.Reached(ctx, "layer staged")
	if d.lower == "" || d.opts.Shift || d.lowerMapping.Equal(d.idMap) {
		return nil
	}
	if err = d.staged.Remap(ctx, d.lowerMapping, d.idMap); err != nil {
		return errors.Join(err, d.staged.Discard())
	}
	step.Reached(ctx, "owners translated")
	return nil
}

// copyTarSplit takes over the tar-split file of another layer's tar, if it has one.
func (d *Draft) copyTarSplit(of Layer) error {
	tarSplit, err := d.store.OpenTarSplit(of)
	if err != nil || tarSplit == nil {
		return err
	}
	defer tarSplit.Close()
	if d.tarSplit, err = d.addition(); err != nil {
		return err
	}
	return copyToFile(d.tarSplit, tarSplit)
}

// settleMapping decides how owners are translated: as asked for, else as the parent's
// are; and not at all on disk where the driver does it while mounting, except for what a
// container writes itself.
func (d *Draft) settleMapping(ctx context.Context, parent *Layer) error {
	m := d.opts.IDMap
	if parent != nil {
		d.lowerMapping = parent.Mapping()
		if len(m.UIDs) == 0 {
			m.UIDs = d.lowerMapping.UIDs
		}
		if len(m.GIDs) == 0 {
			m.GIDs = d.lowerMapping.GIDs
		}
	}
	if d.opts.HostUIDMapping {
		m.UIDs = nil
	}
	if d.opts.HostGIDMapping {
		m.GIDs = nil
	}
	if err := m.Validate(); err != nil {
		return err
	}
	if !d.opts.Container && !m.IsIdentity() {
		shifts, err := d.store.Shifts(ctx, m)
		if err != nil {
			return err
		}
		if shifts {
			m = idtools.Mapping{}
		}
	}
	d.idMap = m
	return nil
}

// Shifts reports whether the driver translates owners by m while mounting, so that layers
// keep the container's own IDs.
func (s *Store) Shifts(ctx context.Context, m idtools.Mapping) (bool, error) {
	shifter, ok := s.driver.(drivers.Shifter)
	if !ok || m.IsIdentity() {
		return false, nil
	}
	return shifter.SupportsShifting(ctx, m)
}

// ShiftsLayer reports whether this layer is one for which Shifts holds, where it does.
func (s *Store) ShiftsLayer(ctx context.Context, id string) (bool, error) {
	shifter, ok := s.driver.(drivers.Shifter)
	if !ok {
		return false, nil
	}
	return shifter.ShiftsLayer(ctx, id)
}

// Fill unpacks a tar, compressed or not, into the draft, and records its digests. It
// reads r to its end. When it fails the draft is good for nothing but Close.
func (d *Draft) Fill(ctx context.Context, r io.Reader, progress func(read int64)) error {
	return d.unpack(ctx, r, progress, d.store.cfg.Apply.Whiteouts)
}

func (d *Draft) unpack(ctx context.Context, r io.Reader, progress func(read int64),
	whiteouts archive.WhiteoutForm) error {
	path, err := d.addition()
	if err != nil {
		return err
	}
	// Readable too: where an entry of the tar replaces the file of an earlier one, Apply
	// rewrites what it has recorded.
	tarSplit, err := openat.CreateFile(path)
	if err != nil {
		return err
	}
	opts := d.store.cfg.Apply
	opts.IDMap = d.idMap
	opts.Progress = progress
	opts.Whiteouts = whiteouts
	if d.behind == nil {
		d.behind = newWriteBehind(d)
	}
	if d.behind != nil {
		opts.Wrote = d.behind.wrote
	}
	result, err := apply.Tar(ctx, d.staged.Content(), r, tarSplit, opts)
	if cerr := tarSplit.Close(); err == nil {
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
	d.tarSplit, d.result, d.whiteouts = path, &result, whiteouts
	if d.lowerDraft == nil {
		if err := d.settleWhiteouts(ctx); err != nil {
			return err
		}
	}
	d.record.setDigests(result)
	step.Reached(ctx, "layer filled")
	return nil
}

// settleWhiteouts has the layer hide what is beneath it and nothing else, as soon as that
// is whole.
func (d *Draft) settleWhiteouts(ctx context.Context) error {
	if d.result == nil || d.result.Whiteouts == 0 && !d.result.OpaqueRoot {
		return nil
	}
	lowers, err := d.lowers(ctx)
	if err != nil {
		return err
	}
	return apply.Settle(ctx, d.staged.Content(), lowers, d.whiteouts, *d.result)
}

// lowers are the content directories of what the draft lies on, nearest first.
func (d *Draft) lowers(ctx context.Context) ([]string, error) {
	if d.lowerDraft != nil {
		deeper, err := d.lowerDraft.lowers(ctx)
		return append([]string{d.lowerDraft.staged.Content()}, deeper...), err
	}
	if d.lower == "" {
		return nil, nil
	}
	info, err := d.store.driver.Stat(ctx, d.lower)
	return append([]string{info.Content}, info.Lower...), err
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
	f, err := openat.CreateFile(path)
	if errors.Is(err, unix.EEXIST) { // an item that comes twice: the last one counts
		if err = os.Remove(path); err == nil {
			f, err = openat.CreateFile(path)
		}
	}
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
