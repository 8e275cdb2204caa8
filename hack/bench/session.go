package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/internal/testutil"
)

// session is one run of the harness.
type session struct {
	rounds  int
	quick   bool
	dir     string // for images of file systems
	results *results
	layers  []testLayer
}

func newSession(rounds int, quick bool, only []string) (*session, error) {
	s := &session{rounds: rounds, quick: quick, results: &results{}}
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

func (s *session) close() { os.RemoveAll(s.dir) }

// layer is the test layer of that name, or nil where it was not asked for.
func (s *session) layer(name string) *testLayer {
	for i := range s.layers {
		if s.layers[i].name == name {
			return &s.layers[i]
		}
	}
	return nil
}

// fresh makes a file system for one contestant and hands its directory on. Its pages are allocated beforehand, so that nobody pays for
// the backing file's growth.
func (s *session) fresh(mib int, use func(dir string) error) error {
	place, err := os.MkdirTemp(s.dir, "fs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(place)
	loop, err := testutil.OpenLoop(place, "ext4", mib)
	if err != nil {
		return err
	}
	defer loop.Close()
	defer testutil.UnmountBelow(loop.Dir)
	if err := touchBlocks(filepath.Join(loop.Dir, "fill"), int64(mib)*2/3); err != nil {
		return err
	}
	return use(loop.Dir)
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

// do performs a task and notes its times under the rows that named says, by what was timed.
func (s *session) do(ctx context.Context, work, contestant string, in input, rows map[string]string) (output, error) {
	out, err := perform(ctx, work+"/"+contestant, in)
	if err != nil {
		return out, err
	}
	for what, row := range rows {
		for _, seconds := range out.Seconds[what] {
			s.results.add(row, contestant, seconds)
		}
	}
	if rows["apply"] != "" {
		s.results.addMemory(rows["apply"], contestant, out.PeakKiB)
	}
	return out, nil
}
