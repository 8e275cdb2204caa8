package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/lockfile"
)

// CheckOptions says how closely Check looks.
type CheckOptions struct {
	// Quick reads no content: records, links, existence and sizes only.
	Quick bool
	// UnusedAfter is how old a layer may become that no image and no container uses,
	// before it counts as forgotten. 0 means 24 hours: an image is recorded after its
	// layers. A negative value means at once.
	UnusedAfter time.Duration
	// Workers is how many layers are read at the same time; 0 means as many as there are
	// processors, up to four.
	Workers int
	// Progress is called now and then with the bytes of layers read so far and in all;
	// nil for none. Calls don't overlap.
	Progress func(done, total int64)

	content  map[string]bool // the only layers whose content is to be read; nil for all
	hopeless map[Object]bool // what repair has failed at
	damaged  []string        // the kinds of which repair has found damaged files of records
}

// Check looks for damage and for garbage, and changes nothing.
//
// It holds the locks of layers, images and containers, shared, while it looks at the
// records and at the files that they promise, and none while it reads content: imports,
// deletions and whatever else go on meanwhile. What they are at work on isn't reported.
// Content that differs is looked at again if its layer was changed meanwhile.
//
// Damage is no error. A file of records that can't be read is a finding, and then the
// only one: without it nothing can be said about the others.
func (s *Store) Check(ctx context.Context, opts CheckOptions) (Report, error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return Report{}, err
	}
	var report Report
	stale, err := roots.Layers.Stale(ctx)
	if err != nil {
		return report, err
	}
	if err := s.checkRecords(ctx, &report); err != nil || !report.Empty() {
		return report, err
	}
	survey, err := s.survey(ctx, opts)
	if err != nil {
		return report, err
	}
	report = survey.Report
	if err := s.checkTokens(ctx, &report); err != nil {
		return report, err
	}
	if !opts.Quick {
		if err := s.checkContent(ctx, survey, opts, &report); err != nil {
			return report, err
		}
	}
	survey.affects(&report)
	probes, err := s.staleProbes(ctx)
	if err != nil {
		return report, err
	}
	for _, path := range probes {
		report.add(KindFile, path, RemedyDiscard, "left by a process that is gone")
	}
	if len(stale) > 0 {
		again, err := s.stillStale(ctx, stale)
		if err != nil {
			return report, err
		}
		for _, path := range again {
			report.add(KindFile, path, RemedyDiscard, "left by a process that is gone")
		}
	}
	slices.SortStableFunc(report.Findings, func(a, b Finding) int { return rank(a.Kind) - rank(b.Kind) })
	return report, nil
}

func rank(k Kind) int {
	return slices.Index([]Kind{KindRecords, KindLayer, KindImage, KindContainer, KindFile}, k)
}

// stillStale returns those of the paths that are stale now as well. A process makes a
// lock file an instant before it locks it; a second look after a pause tells it from one
// that was left.
func (s *Store) stillStale(ctx context.Context, before []string) ([]string, error) {
	select {
	case <-time.After(50 * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	roots, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	now, err := roots.Layers.Stale(ctx)
	return slices.DeleteFunc(now, func(path string) bool { return !slices.Contains(before, path) }), err
}

// probeAge is far longer than a test mount takes.
const probeAge = time.Minute

// staleProbes returns the directories of test mounts that nobody uses. Those that
// containers/storage makes when it starts are made and removed under storage.lock; the
// one that asks for ID-mapped mounts is made under no lock at all, when a layer is first
// created, so only age tells that it was left.
func (s *Store) staleProbes(ctx context.Context) ([]string, error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	prober, ok := roots.Driver.(drivers.Prober)
	if !ok {
		return nil, nil
	}
	probes, err := prober.Probes(ctx)
	if err != nil {
		return nil, err
	}
	old := time.Now().Add(-probeAge)
	return slices.DeleteFunc(probes, func(dir string) bool {
		info, err := os.Lstat(dir)
		return err != nil || info.ModTime().After(old)
	}), nil
}

// checkRecords reports files of records that can't be read.
func (s *Store) checkRecords(ctx context.Context, report *Report) error {
	for _, kind := range recordKinds {
		if kind == "mounts" && !report.Empty() {
			continue // it lies under the lock of the layers, whose records can't be read
		}
		err := s.readRecords(ctx, kind)
		if errors.Is(err, errdefs.ErrCorrupt) {
			report.add(KindRecords, kind, RemedySalvage, "%v", err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

var recordKinds = []string{"layers", "mounts", "images", "containers"}

// checkTokens looks into the lock files. Readers tell by the 64 bytes in them whether
// what they remember is still true (format, section 4.2); a file that was never written
// to is empty.
func (s *Store) checkTokens(ctx context.Context, report *Report) error {
	locks, err := s.lockFiles(ctx)
	if err != nil {
		return err
	}
	for _, path := range locks {
		sound, err := lockfile.Sound(path)
		if err != nil {
			return err
		}
		if !sound {
			report.add(KindFile, path, RemedyToken, "the token of the last writer is damaged")
		}
	}
	return nil
}

// lockFiles are the lock files that hold tokens.
func (s *Store) lockFiles(ctx context.Context) ([]string, error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	name, graph, run := roots.Driver.Name(), s.cfg.GraphRoot, s.cfg.RunRoot
	containers := graph
	if s.cfg.TransientStore {
		containers = run
	}
	locks := []string{
		roots.StorageLock(),
		filepath.Join(graph, name+"-layers", "layers.lock"),
		filepath.Join(run, name+"-layers", "mountpoints.lock"),
		filepath.Join(graph, name+"-images", "images.lock"),
		filepath.Join(containers, name+"-containers", "containers.lock"),
	}
	if split := s.cfg.ImageStore; split != "" {
		locks = append(locks, filepath.Join(split, name+"-layers", "layers.lock"),
			filepath.Join(split, name+"-images", "images.lock"))
	}
	return locks, nil
}

// describeItem says a finding about a data item.
func describeItem(key string, format string, args ...any) string {
	return fmt.Sprintf("data item %q: %s", key, fmt.Sprintf(format, args...))
}
