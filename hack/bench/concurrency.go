package main

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

// Rows of this part that goals speak of.
const (
	rowIdleMounts   = "mount of a ready layer, 99 of 100 within"
	rowBusyMounts   = "the same while another process imports"
	rowImportsAlone = "eight imports one after another"
	rowImports      = "eight imports side by side"
	rowSameLayer    = "eight imports of the same layer"
)

// concurrencyBench lets one process mount while another imports, and one process import
// several layers at once.
func concurrencyBench(ctx context.Context, s *session) error {
	mounts, mib := 1000, 3<<10
	if s.quick {
		mounts, mib = 100, 300
	}
	archive, err := s.layers[0].file(ctx, ".tar")
	if err != nil {
		return err
	}
	for round := range s.rounds {
		if round > 0 && s.late(round) {
			break
		}
		if err := s.fresh(mib*5/4+512, func(dir string) error {
			return mountsBesideImport(ctx, s, input{Dir: dir, Count: 12, Times: mounts}, mib)
		}); err != nil {
			return err
		}
		for _, how := range shuffled([]string{rowImportsAlone, rowImports, rowSameLayer}) {
			if err := s.fresh(12*s.layers[0].mib(), func(dir string) error {
				_, err := s.do(ctx, how, "shale", input{Dir: dir, Archive: archive, Times: 8},
					map[string]string{"imports": how})
				return err
			}); err != nil {
				return err
			}
		}
		progress("concurrency: round %d of %d", round+1, s.rounds)
	}
	return nil
}

// mountsBesideImport mounts a chain of layers read-only again and again, as an image is
// mounted, first alone and then beside a process that imports a layer of so many MiB.
func mountsBesideImport(ctx context.Context, s *session, in input, mib int) error {
	if _, err := perform(ctx, "chain/shale", in); err != nil {
		return err
	}
	mounts := func(row string) error {
		out, err := perform(ctx, "ready/shale", in)
		if err != nil {
			return err
		}
		all := slices.Sorted(slices.Values(out.Seconds["mount"]))
		s.results.add(row, "shale", all[len(all)*99/100])
		return nil
	}
	if err := mounts(rowIdleMounts); err != nil {
		return err
	}
	importing, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		_, err := perform(importing, "importing/shale", input{Dir: in.Dir, Count: mib})
		ended <- err
	}()
	if err := appears(ctx, filepath.Join(in.Dir, importingMark), ended); err != nil {
		return err
	}
	if err := mounts(rowBusyMounts); err != nil {
		return err
	}
	stop()
	<-ended //nolint:errcheck // it was killed
	return nil
}

// appears waits for a file, or for the process that should make it to fail.
func appears(ctx context.Context, path string, ended <-chan error) error {
	for {
		_, err := os.Lstat(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case err := <-ended:
			return fmt.Errorf("the process that was to make %s ended: %w", filepath.Base(path), err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func concurrencyTasks() map[string]task {
	return map[string]task{
		"ready/shale":              shaleReadyMounts,
		"importing/shale":          shaleImporting,
		rowImportsAlone + "/shale": shaleImports(1, false),
		rowImports + "/shale":      shaleImports(8, false),
		rowSameLayer + "/shale":    shaleImports(8, true),
	}
}

// shaleReadyMounts mounts and unmounts, with the weight that "shale mount" gives itself.
// The mounts are read-only: when a writable overlay goes, the kernel syncs all of the
// file system that its upper directory is on (fs/overlayfs/super.c, ovl_sync_fs), and
// that would measure the disk.
func shaleReadyMounts(ctx context.Context, in input, watch *stopwatch) (output, error) {
	runtime.LockOSThread() // the weight is this thread's (cmd/internal/urgent, as far as it concerns one thread)
	defer runtime.UnlockOSThread()
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Nice: -10, Runtime: 100_000}, 0)
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		for range in.Times {
			if err := watch.time("mount", func() error {
				_, err := s.Mount(ctx, layerID(in.Count), store.MountOptions{ReadOnly: true})
				return err
			}); err != nil {
				return err
			}
			if _, err := s.Unmount(ctx, layerID(in.Count), false); err != nil {
				return err
			}
		}
		return nil
	})
}

// importingMark is the file that tells that imports are under way.
const importingMark = "importing"

// shaleImporting imports a layer of in.Count MiB in files of one, and deletes and imports
// it again, until somebody ends the process.
func shaleImporting(ctx context.Context, in input, _ *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		if err := os.WriteFile(filepath.Join(in.Dir, importingMark), nil, 0o600); err != nil {
			return err
		}
		for {
			if _, err := s.ImportLayer(ctx, layers.CreateOptions{ID: "imported"}, filesOfOneMiB(in.Count),
				nil); err != nil {
				return err
			}
			if err := errors.Join(s.DeleteLayer(ctx, "imported", store.DeleteOptions{}), s.Wait(ctx)); err != nil {
				return err
			}
		}
	})
}

// filesOfOneMiB is a tar of so many, all different, which costs no disk to read and next
// to nothing to make.
func filesOfOneMiB(n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		content := make([]byte, 1<<20)
		rand.Read(content)
		t := tar.NewWriter(w)
		for i := range n {
			binary.NativeEndian.PutUint64(content, uint64(i))
			if err := t.WriteHeader(&tar.Header{Name: fmt.Sprintf("dir%d/file%d", i/100, i), Mode: 0o644,
				Size: int64(len(content))}); err != nil {
				w.CloseWithError(err)
				return
			}
			if _, err := t.Write(content); err != nil {
				w.CloseWithError(err)
				return
			}
		}
		w.CloseWithError(t.Close())
	}()
	return r
}

func shaleImport(ctx context.Context, s *store.Store, archive, id string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = s.ImportLayer(ctx, layers.CreateOptions{ID: id}, file, nil)
	return err
}

// shaleImports imports in.Times layers, so many at once; with same they all have one ID,
// which all but one find taken.
func shaleImports(atOnce int, same bool) task {
	return func(ctx context.Context, in input, watch *stopwatch) (output, error) {
		return output{}, withShale(ctx, in, func(s *store.Store) error {
			if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: "first"}); err != nil { // the store's beginnings
				return err
			}
			return watch.time("imports", func() error {
				errs := make([]error, in.Times)
				turns := make(chan struct{}, atOnce)
				var all sync.WaitGroup
				for i := range in.Times {
					all.Go(func() {
						turns <- struct{}{}
						defer func() { <-turns }()
						id := layerID(i)
						if same {
							id = layerID(0)
						}
						if err := shaleImport(ctx, s, in.Archive, id); !same ||
							!errors.Is(err, errdefs.ErrDuplicateID) {
							errs[i] = err
						}
					})
				}
				all.Wait()
				return errors.Join(errs...)
			})
		})
	}
}
