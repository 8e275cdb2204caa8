package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// session is one run of the harness.
type session struct {
	rounds  int
	quick   bool
	dir     string // for images of file systems
	results *results
	layers  []testLayer
	loops   []*testutil.Loop // file systems at rest
	sizes   map[*testutil.Loop]int
	limit   time.Duration // for all parts together; 0 for none
	begun   time.Time
	share   float64 // of the limit, at which the current part is to end
}

func newSession(rounds int, quick bool, only []string, limit time.Duration) (*session, error) {
	s := &session{rounds: rounds, quick: quick, results: &results{Counts: map[string]float64{}}, limit: limit,
		sizes: map[*testutil.Loop]int{}}
	if quick {
		s.rounds = 1
	}
	for _, l := range testLayers(quick) {
		if len(only) == 0 || slices.Contains(only, l.name) {
			s.layers = append(s.layers, l)
		}
	}
	var err error
	s.dir, err = os.MkdirTemp("", "shale-bench-")
	return s, err
}

func (s *session) close() error {
	var errs []error
	for _, loop := range s.loops {
		errs = append(errs, loop.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// makeLayers makes the layers in all their forms. Those that can't be made take no part:
// their packages may be out of reach.
func (s *session) makeLayers(ctx context.Context) error {
	var errs []error
	s.layers = slices.DeleteFunc(s.layers, func(l testLayer) bool {
		for _, ext := range []string{".tar", ".tar.gz", ".tar.zst"} {
			if _, err := l.file(ctx, ext); err != nil {
				errs = append(errs, fmt.Errorf("layer %s: %w", l.name, err))
				return true
			}
		}
		return false
	})
	return errors.Join(errs...)
}

// late tells a part to do no more rounds because it has used its share of the time.
func (s *session) late(round int) bool {
	if round == 0 || s.limit == 0 || s.share == 0 || time.Since(s.begun).Seconds() < s.share*s.limit.Seconds() {
		return false
	}
	progress("no time for more than %d rounds", round)
	return true
}

// layer is the test layer of that name, or nil where it was not asked for.
func (s *session) layer(name string) *testLayer {
	for i := range s.layers {
		if s.layers[i].name == name {
			return &s.layers[i]
		}
	}
	return nil
}

// fresh makes a file system for one contestant and hands its directory on, with a tmpfs
// for the run root, which is on one on every host. The blocks of its backing file are
// allocated beforehand, so that nobody pays for that file's growth, and what a former
// contestant has not written yet is dropped, so that nobody waits for another's data.
func (s *session) fresh(mib int, use func(dir string) error) error {
	loop, err := s.takeLoop(mib)
	if err != nil {
		return err
	}
	defer func() { s.loops = append(s.loops, loop) }()
	if err := errors.Join(testutil.UnmountBelow(loop.Dir), loop.Format()); err != nil {
		return err
	}
	run := filepath.Join(loop.Dir, "run")
	if err := os.Mkdir(run, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", run, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", run, err)
	}
	return use(loop.Dir)
}

// takeLoop finds a file system at rest that is large enough, or makes one.
func (s *session) takeLoop(mib int) (*testutil.Loop, error) {
	for i, loop := range s.loops {
		if size := s.sizes[loop]; size >= mib && size <= 2*mib {
			s.loops = slices.Delete(s.loops, i, i+1)
			return loop, nil
		}
	}
	place, err := os.MkdirTemp(s.dir, "fs")
	if err != nil {
		return nil, err
	}
	loop, err := testutil.OpenLoop(place, "ext4", mib)
	if err != nil {
		return nil, err
	}
	s.sizes[loop] = mib
	if s.quick {
		return loop, nil // where no time is taken
	}
	return loop, touchBlocks(filepath.Join(loop.Dir, "fill"), int64(mib)*9/10)
}

// touchBlocks writes a file of so many MiB and removes it again.
func touchBlocks(path string, mib int64) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer file.Close()
	block := make([]byte, 1<<20)
	for range mib {
		if _, err := file.Write(block); err != nil {
			return err
		}
	}
	return file.Sync()
}

// readOnce brings a file into the page cache.
func readOnce(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(io.Discard, file)
	return err
}

// shuffled is the order of this round.
func shuffled(contestants []string) []string {
	order := slices.Clone(contestants)
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	return order
}

// progress tells a person that something is going on.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// do performs a task and notes its times under the rows that named says, by what was
// timed.
func (s *session) do(ctx context.Context, work, contestant string, in input, rows map[string]string) (output, error) {
	out, err := perform(ctx, work+"/"+contestant, in)
	if err != nil {
		return out, err
	}
	for _, what := range slices.Sorted(maps.Keys(rows)) {
		for _, seconds := range out.Seconds[what] {
			s.results.add(rows[what], contestant, seconds)
		}
		s.results.addCPU(rows[what], contestant, out.CPU[what])
	}
	if rows["apply"] != "" {
		s.results.addMemory(rows["apply"], contestant, out.PeakKiB)
	}
	return out, nil
}
