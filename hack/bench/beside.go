package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// besideBench asks what a running import does to any other program that syncs a little
// file: with the import synced in the end, as is our default, and without.
func besideBench(ctx context.Context, s *session) error {
	l := s.layer("node")
	if l == nil {
		return nil
	}
	path, err := l.file(ctx, ".tar.zst")
	if err != nil {
		return err
	}
	for round := 0; round < s.rounds && !s.late(round); round++ {
		for _, how := range []struct{ importer, row string }{{"", "idle"}, {"apply", "beside an import"},
			{"unsynced", "beside an unsynced import"}} {
			if err := s.fresh(s.largest(), func(dir string) error {
				return s.beside(ctx, dir, path, how.importer, "write of 4 KiB and fdatasync, slowest of 100, "+how.row)
			}); err != nil {
				return err
			}
		}
		progress("beside: round %d of %d", round+1, s.rounds)
	}
	return nil
}

// beside writes again and again while an import runs, or once without.
func (s *session) beside(ctx context.Context, dir, archive, importer, row string) error {
	in := input{Dir: dir, Times: 200}
	if importer == "" {
		_, err := s.do(ctx, "writes", "shale", in, map[string]string{"slowest": row})
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	imported := make(chan error, 1)
	go func() {
		_, err := perform(ctx, importer+"/shale", input{Dir: dir, Archive: archive})
		imported <- err
	}()
	for {
		out, err := perform(ctx, "writes/shale", in)
		if err != nil {
			cancel()
			return errors.Join(err, <-imported)
		}
		select {
		case err := <-imported: // this time nothing ran beside it in the end
			return err
		default:
		}
		for _, seconds := range out.Seconds["slowest"] {
			s.results.add(row, "shale", seconds)
		}
	}
}

// slowestOf repeats something in lots of 100 and notes the slowest of each.
func slowestOf(in input, watch *stopwatch, do func() error) error {
	for done := 0; done < in.Times; done += 100 {
		lot := newStopwatch()
		for range 100 {
			if err := lot.time("one", do); err != nil {
				return err
			}
		}
		watch.seconds["slowest"] = append(watch.seconds["slowest"], slices.Max(lot.seconds["one"]))
	}
	return nil
}

// writes is any program that syncs what it writes, on the same file system.
func writes(_ context.Context, in input, watch *stopwatch) (output, error) {
	file, err := os.OpenFile(filepath.Join(in.Dir, "journal"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return output{}, err
	}
	defer file.Close()
	block := make([]byte, 4096)
	return output{}, slowestOf(in, watch, func() error {
		if _, err := file.Write(block); err != nil {
			return err
		}
		return unix.Fdatasync(int(file.Fd()))
	})
}
