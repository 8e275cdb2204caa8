package layers

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
	"github.com/shalestore/shale/quota"
	"golang.org/x/sys/unix"
)

// Footprint is what a layer takes on disk: its files, its recipe and its data items.
type Footprint struct {
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

// FootprintOptions says which layers may have changed since they were last measured.
type FootprintOptions struct {
	// Restless are the IDs of layers that somebody may be writing to: those of
	// containers, and what is mounted.
	Restless map[string]bool
	// Fresh measures everything anew.
	Fresh bool
}

// Footprints measures layers, several at a time, and returns what they take in the same
// order. It holds no lock meanwhile. A layer that is deleted in the meantime is
// BasisMissing; so is one that is damaged, with an error beside the results.
//
// Layers that somebody has described by a digest, and that aren't restless, are measured
// once. The result is kept in the run root, so that it is forgotten when the host starts
// again, beside stamps of all that a change would leave its mark on.
func (s *Store) Footprints(ctx context.Context, all []Layer, opts FootprintOptions) ([]Footprint, error) {
	cache := s.readMeasured()
	results := make([]Footprint, len(all))
	stamps := make([]string, len(all)) // of layers whose results may be kept
	errs := make([]error, len(all))
	measure := func(n int) {
		layer := all[n]
		settled := !opts.Restless[layer.ID] && (layer.DiffID != "" || layer.TOCDigest != "")
		if settled {
			stamps[n], errs[n] = s.stamp(ctx, layer)
			if m, known := cache[layer.cacheKey()]; known && !opts.Fresh && stamps[n] != "" && m.Stamp == stamps[n] {
				results[n] = Footprint{Bytes: m.Bytes, Inodes: m.Inodes, Basis: BasisCache}
				return
			}
		}
		if errs[n] == nil {
			results[n], errs[n] = s.footprint(ctx, layer)
		}
		if errs[n] != nil {
			results[n], stamps[n] = Footprint{Basis: BasisMissing}, ""
			if vanished(errs[n]) {
				errs[n] = nil
			} else {
				errs[n] = fmt.Errorf("layer %s: %w", layer.ID, errs[n])
			}
			return
		}
		if stamps[n] != "" {
			// It counts only if nothing has happened during the walk.
			if after, err := s.stamp(ctx, layer); err != nil || after != stamps[n] {
				stamps[n] = ""
			}
		}
	}
	inParallel(ctx, len(all), measure)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.keepMeasured(ctx, cache, all, results, stamps)
	return results, errors.Join(errs...)
}

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

func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errdefs.ErrNotFound)
}

// filesStamp is another one after a layer's content was replaced, or it was mounted to be
// written to: see drivers.Footprinter. It is "" where the driver can't tell.
func (s *Store) filesStamp(ctx context.Context, id string) (string, error) {
	if f, ok := s.driver.(drivers.Footprinter); ok {
		return f.Stamp(ctx, id)
	}
	return "", nil
}

// stamp tells everything of a layer from what it was, or is "".
func (s *Store) stamp(ctx context.Context, layer Layer) (string, error) {
	files, err := s.filesStamp(ctx, layer.ID)
	if err != nil || files == "" {
		return "", err
	}
	recipe, err := diskusage.Stamp(s.recipeOf(layer)) // comes anew with each diff that is applied, by whatever program
	if err != nil {
		return "", err
	}
	items := ""
	if len(layer.BigDataNames) > 0 {
		if items, err = diskusage.Stamp(s.itemsOf(layer)); err != nil { // items are replaced by renames
			return "", err
		}
	}
	return string(layer.DiffID) + " " + files + " " + recipe + " " + items, nil
}

// footprint measures one layer.
func (s *Store) footprint(ctx context.Context, layer Layer) (Footprint, error) {
	own, err := s.driverFootprint(ctx, layer.ID)
	if err != nil {
		return Footprint{}, err
	}
	f := Footprint{Bytes: own.Bytes, Inodes: own.Inodes, Basis: BasisWalk}
	if own.Quota {
		f.Basis, f.Limits = BasisQuota, own.Limits
	}
	var st unix.Stat_t
	if err := unix.Lstat(s.recipeOf(layer), &st); err == nil {
		f.Bytes += diskusage.Allocated(&st)
		f.Inodes++
	} else if err != unix.ENOENT {
		return Footprint{}, &os.PathError{Op: "lstat", Path: s.recipeOf(layer), Err: err}
	}
	items, err := diskusage.Count(ctx, s.itemsOf(layer))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Footprint{}, err
	}
	f.Bytes += items.Allocated
	f.Inodes += items.Inodes
	return f, nil
}

func (s *Store) driverFootprint(ctx context.Context, id string) (drivers.Footprint, error) {
	if f, ok := s.driver.(drivers.Footprinter); ok {
		return f.Footprint(ctx, id)
	}
	usage, err := s.driver.Usage(ctx, id)
	return drivers.Footprint{Bytes: usage.Bytes, Inodes: usage.Inodes}, err
}
