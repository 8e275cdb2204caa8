package usage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/diskusage"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/quota"
	"github.com/shalestore/shale/store/internal/roots"
	"golang.org/x/sys/unix"
)

// footprint is what a layer takes on disk: its files, its tar-split file and its data
// items.
type footprint struct {
	Bytes  int64 // allocated, as df counts them
	Inodes int64
	Basis  Basis
	// Limits are those of the quota, where the basis is one; they bound the layer's files
	// alone.
	Limits quota.Limits
}

// Basis tells how a footprint was found out.
type Basis string

// What footprints rest on.
const (
	BasisWalk    Basis = "walk"    // every file was looked at, just now
	BasisCache   Basis = "cache"   // every file was looked at once, and nothing can have changed since
	BasisQuota   Basis = "quota"   // the file system keeps account of the layer
	BasisMissing Basis = "missing" // the layer's files aren't there, or can't be reached
)

// footprints measures layers, several at a time, and returns what they take in the same
// order. It holds no lock meanwhile. A layer that is deleted in the meantime is
// BasisMissing; so is one that is damaged, with an error beside the results.
//
// Layers that somebody has described by a digest, and that aren't restless, which means
// that somebody may be writing to them, are measured once. The result is kept in the run
// root, so that it is forgotten when the host starts again, beside stamps of all that a
// change would leave its mark on. fresh measures everything anew.
func footprints(ctx context.Context, r *roots.Roots, all []layers.Layer, restless map[string]bool,
	fresh bool) ([]footprint, error) {
	m := meter{r}
	cache := m.cached()
	results := make([]footprint, len(all))
	stamps := make([]string, len(all)) // of layers whose results may be kept
	errs := make([]error, len(all))
	measure := func(n int) {
		layer := all[n]
		if !restless[layer.ID] && (layer.DiffID != "" || layer.TOCDigest != "") {
			stamps[n], errs[n] = m.stamp(ctx, layer)
			if c, known := cache[cacheKey(layer)]; known && !fresh && stamps[n] != "" && c.Stamp == stamps[n] {
				results[n] = footprint{Bytes: c.Bytes, Inodes: c.Inodes, Basis: BasisCache}
				return
			}
		}
		if errs[n] == nil {
			results[n], errs[n] = m.measure(ctx, layer)
		}
		if errs[n] != nil {
			results[n], stamps[n] = footprint{Basis: BasisMissing}, ""
			if errors.Is(errs[n], fs.ErrNotExist) || errors.Is(errs[n], errdefs.ErrNotFound) {
				errs[n] = nil
			} else {
				errs[n] = fmt.Errorf("layer %s: %w", layer.ID, errs[n])
			}
			return
		}
		if stamps[n] != "" {
			// It counts only if nothing has happened during the walk.
			if after, err := m.stamp(ctx, layer); err != nil || after != stamps[n] {
				stamps[n] = ""
			}
		}
	}
	inParallel(ctx, len(all), measure)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.keep(ctx, cache, all, results, stamps)
	return results, errors.Join(errs...)
}

// meter measures layers.
type meter struct{ *roots.Roots }

// inParallel calls fn for 0 to n-1, on several processors, until ctx ends.
func inParallel(ctx context.Context, n int, fn func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, 2*runtime.GOMAXPROCS(0)) { // a disk that must be asked serves more than the processors
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				fn(i)
			}
		})
	}
	wg.Wait()
}

// stamp tells everything of a layer from what it was, or is "".
func (m meter) stamp(ctx context.Context, layer layers.Layer) (string, error) {
	f, ok := m.Driver.(drivers.Measurer)
	if !ok {
		return "", nil
	}
	files, err := f.Stamp(ctx, layer.ID)
	if err != nil || files == "" {
		return "", err
	}
	// comes anew with each diff that is applied, by whatever program
	tarSplit, err := diskusage.Stamp(m.Layers.TarSplit(layer))
	if err != nil {
		return "", err
	}
	items := ""
	if len(layer.BigDataNames) > 0 {
		if items, err = diskusage.Stamp(m.Layers.Items(layer)); err != nil { // items are replaced by renames
			return "", err
		}
	}
	return string(layer.DiffID) + " " + files + " " + tarSplit + " " + items, nil
}

// measure measures one layer.
func (m meter) measure(ctx context.Context, layer layers.Layer) (footprint, error) {
	own, err := m.files(ctx, layer.ID)
	if err != nil {
		return footprint{}, err
	}
	f := footprint{Bytes: own.Bytes, Inodes: own.Inodes, Basis: BasisWalk}
	if own.Quota {
		f.Basis, f.Limits = BasisQuota, own.Limits
	}
	var st unix.Stat_t
	if err := unix.Lstat(m.Layers.TarSplit(layer), &st); err == nil {
		f.Bytes += diskusage.Allocated(&st)
		f.Inodes++
	} else if err != unix.ENOENT {
		return footprint{}, &os.PathError{Op: "lstat", Path: m.Layers.TarSplit(layer), Err: err}
	}
	items, err := diskusage.Count(ctx, m.Layers.Items(layer))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return footprint{}, err
	}
	f.Bytes += items.Allocated
	f.Inodes += items.Inodes
	return f, nil
}

// files measures what the driver keeps of a layer.
func (m meter) files(ctx context.Context, id string) (drivers.Footprint, error) {
	if f, ok := m.Driver.(drivers.Measurer); ok {
		return f.Footprint(ctx, id)
	}
	usage, err := m.Driver.Usage(ctx, id)
	return drivers.Footprint{Bytes: usage.Bytes, Inodes: usage.Inodes}, err
}
