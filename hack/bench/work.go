package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

type uncompressed = compress.Kind

// applyBench unpacks each layer in each compression, and the large one without syncing.
func applyBench(ctx context.Context, s *session) error {
	var errs []error
	for round := 0; round < s.rounds && !s.late(round); round++ {
		for _, l := range s.layers {
			for _, ext := range []string{".tar", ".tar.gz", ".tar.zst"} {
				if err := s.applyOnce(ctx, l, ext, round == 0 && ext == ".tar"); err != nil {
					errs = append(errs, fmt.Errorf("%s%s: %w", l.name, ext, err))
				}
				if ctx.Err() != nil {
					return errors.Join(errs...)
				}
			}
		}
		progress("apply: round %d of %d", round+1, s.rounds)
	}
	return errors.Join(errs...)
}

// applyOnce has each contestant unpack a layer, and compares what they made.
func (s *session) applyOnce(ctx context.Context, l testLayer, ext string, compare bool) error {
	path, err := l.file(ctx, ext)
	if err != nil {
		return err
	}
	racers := []string{"shale", "storage", "containerd", "tar"}
	if ext == ".tar" {
		racers = append(racers, "kernel")
	}
	trees := map[string]map[string]string{}
	var errs []error // one that fails takes no other along
	for _, c := range shuffled(racers) {
		errs = append(errs, s.fresh(s.largest(), func(dir string) error {
			if err := readOnce(path); err != nil {
				return err
			}
			out, err := s.do(ctx, "apply", c, input{Dir: dir, Archive: path},
				map[string]string{"apply": "apply " + l.name + ext})
			if err == nil && compare {
				trees[c], err = comparableTree(out.Tree)
			}
			return err
		}))
	}
	if ext == ".tar.zst" {
		errs = append(errs, s.fresh(s.largest(), func(dir string) error {
			_, err := s.do(ctx, "unsynced", "shale", input{Dir: dir, Archive: path},
				map[string]string{"apply": "unsynced apply " + l.name + ext})
			return err
		}))
	}
	return errors.Join(append(errs, sameTrees(trees))...)
}

// largest is how large a file system for any of the layers has to be.
func (s *session) largest() int {
	mib := 0
	for _, l := range s.layers {
		mib = max(mib, l.mib())
	}
	return mib
}

// comparableTree reads a tree, but for its root, which each contestant makes in its own
// way.
func comparableTree(dir string) (map[string]string, error) {
	tree, err := testutil.ReadTree(dir)
	delete(tree, ".")
	return tree, err
}

func sameTrees(trees map[string]map[string]string) error {
	for name, tree := range trees {
		if name == "shale" || trees["shale"] == nil {
			continue
		}
		if lines := testutil.Diff(trees["shale"], tree); len(lines) > 0 {
			return fmt.Errorf("shale and %s made different trees: %d differences, the first: %s", name, len(lines),
				lines[0])
		}
	}
	return nil
}

// exportBench writes the large layer out again, commits ten changed files on top of it,
// and deletes it.
func exportBench(ctx context.Context, s *session) error {
	l := s.layer("node")
	if l == nil {
		return nil
	}
	path, err := l.file(ctx, ".tar")
	if err != nil {
		return err
	}
	for round := 0; round < s.rounds && !s.late(round); round++ {
		for _, c := range shuffled([]string{"shale", "storage", "containerd", "tar"}) {
			if err := s.fresh(s.largest(), func(dir string) error {
				in := input{Dir: dir, Archive: path, Times: 1}
				if _, err := perform(ctx, "apply/"+c, in); err != nil {
					return err
				}
				if _, err := s.do(ctx, "diff", c, in, map[string]string{"diff": "diff " + l.name}); err != nil ||
					c == "tar" {
					return err
				}
				if err := s.commitTen(ctx, c, in, "commit 10 files on "+l.name); err != nil {
					return err
				}
				_, err := s.do(ctx, "delete", c, in, map[string]string{"delete": "delete " + l.name,
					"return": "delete " + l.name + ", to the caller's return"})
				return err
			}); err != nil {
				return err
			}
		}
		progress("export: round %d of %d", round+1, s.rounds)
	}
	return nil
}

// changedLayer is a layer stacked on the large one, in which ten files are changed.
type changedLayer struct {
	name         string
	mountOptions []string
	about        string
}

// changedLayers are an ordinary one, and one mounted with overlayfs told to copy no
// content for a change of attributes and to rename directories by a note.
func changedLayers() []changedLayer {
	return []changedLayer{{name: "top"}, {"noted", []string{"metacopy=on", "redirect_dir=on"},
		", metacopy and redirect_dir"}}
}

// commitTen changes ten files in each top layer and times its diff.
func (s *session) commitTen(ctx context.Context, contestant string, in input, row string) error {
	for _, l := range changedLayers() {
		if contestant == "containerd" && l.mountOptions != nil {
			continue // mounts without them
		}
		in.Top, in.MountOptions, in.Times = l.name, l.mountOptions, 3
		if _, err := perform(ctx, "change/"+contestant, in); err != nil {
			return err
		}
		if _, err := s.do(ctx, "commit", contestant, in, map[string]string{"commit": row + l.about}); err != nil {
			return err
		}
	}
	return nil
}

// changeTen appends to the first ten regular files that a walk finds.
func changeTen(root string) error {
	left := 10
	return filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if left == 0 {
			return filepath.SkipAll
		}
		if !d.Type().IsRegular() {
			return nil
		}
		left--
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if _, err := file.WriteString("changed\n"); err != nil {
			file.Close()
			return err
		}
		return file.Close()
	})
}

// cycleBench lets a container live in stores of growing size.
func cycleBench(ctx context.Context, s *session) error {
	sizes, times := []int{1, 100, 1000, 5000}, 40
	if s.quick {
		sizes, times = []int{1, 100}, 10
	}
	return s.grow(ctx, []string{"shale", "storage", "containerd"}, sizes, 1024, "fill",
		func(c, dir string, size int) error {
			for _, kind := range []string{"layer", "container", "volatile"} {
				if c == "containerd" && kind != "layer" {
					continue
				}
				rows := map[string]string{"cycle": fmt.Sprintf("cycle of a %s, store of %d", kind, size)}
				if _, err := s.do(ctx, kind, c, input{Dir: dir, Count: size, Times: times}, rows); err != nil {
					return err
				}
			}
			return nil
		})
}

// depthBench mounts chains of layers.
func depthBench(ctx context.Context, s *session) error {
	depths, times := []int{1, 10, 50, 120, 400}, 10
	if s.quick {
		depths, times = []int{1, 50}, 5
	}
	return s.grow(ctx, []string{"shale", "storage", "containerd", "kernel"}, depths, 512, "chain",
		func(c, dir string, depth int) error {
			rows := map[string]string{"mount": fmt.Sprintf("mount on %d lowers", depth),
				"unmount": fmt.Sprintf("unmount from %d lowers", depth)}
			_, err := s.do(ctx, "mount", c, input{Dir: dir, Count: depth, Times: times}, rows)
			return err
		})
}

// openBench finds one layer of many from a process that knows nothing yet.
func openBench(ctx context.Context, s *session) error {
	sizes := []int{1, 100, 1000, 5000}
	if s.quick {
		sizes = []int{1, 100}
	}
	return s.grow(ctx, []string{"shale", "storage", "containerd"}, sizes, 1024, "fill",
		func(c, dir string, size int) error {
			for range 5 {
				if _, err := s.do(ctx, "open", c, input{Dir: dir, Count: size},
					map[string]string{"open": fmt.Sprintf("open and get one of %d", size)}); err != nil {
					return err
				}
			}
			return nil
		})
}

// grow gives each contestant a file system that stays, lets its store grow from size to
// size, and measures at each in so many rounds.
func (s *session) grow(ctx context.Context, contestants []string, sizes []int, mib int, how string,
	measure func(c, dir string, size int) error) error {
	dirs := map[string]string{}
	var next func(rest []string) error
	next = func(rest []string) error {
		if len(rest) > 0 {
			return s.fresh(mib, func(dir string) error {
				dirs[rest[0]] = dir
				return next(rest[1:])
			})
		}
		for _, size := range sizes {
			for _, c := range contestants {
				if tasks()[how+"/"+c] == nil {
					continue
				}
				if _, err := perform(ctx, how+"/"+c, input{Dir: dirs[c], Count: size}); err != nil {
					return err
				}
			}
			for round := 0; round < s.rounds && !s.late(round); round++ {
				for _, c := range shuffled(contestants) {
					unix.Sync() // the others' stores, which nobody else has synced, are not for this one to wait for
					if err := measure(c, dirs[c], size); err != nil {
						return err
					}
				}
			}
			progress("%s: %d", how, size)
		}
		return nil
	}
	return next(contestants)
}
