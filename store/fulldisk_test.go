package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"golang.org/x/sys/unix"
)

// On a disk without a free block, or without a free inode, everything that makes room
// works: unmounting, deleting containers, layers and images, and the collection of
// garbage. Each begins on a disk that is full to the last block, in a store that was
// opened just now.
func TestRoomIsMadeOnAFullDisk(t *testing.T) {
	tmpfs := func(opts string) func(*testing.T) string {
		return func(t *testing.T) string {
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, opts); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
			t.Cleanup(func() { testutil.UnmountBelow(dir) })
			return dir
		}
	}
	loop := func(kind string, size int, mkfs ...string) func(*testing.T) string {
		return func(t *testing.T) string { return testutil.LoopFS(t, kind, size, mkfs...) }
	}
	for name, c := range map[string]struct {
		place func(*testing.T) string
		fill  func(testing.TB, string)
	}{
		"no block, ext4":  {loop("ext4", 32), fillBlocks},
		"no block, xfs":   {loop("xfs", 320), fillBlocks},
		"no block, btrfs": {loop("btrfs", 128), fillBlocks},
		"no block, tmpfs": {tmpfs("size=16m"), fillBlocks},
		"no inode, ext4":  {loop("ext4", 32, "-N", "512"), fillInodes},
		"no inode, xfs":   {loop("xfs", 320, "-i", "maxpct=1"), fillInodes},
		"no inode, tmpfs": {tmpfs("size=64m,nr_inodes=400"), fillInodes},
	} {
		for _, driver := range []string{"overlay", "vfs"} {
			t.Run(name+", "+driver, func(t *testing.T) {
				testutil.Root(t)
				makeRoom(t, c.place(t), driver, c.fill)
			})
		}
	}
}

func makeRoom(t *testing.T, dir, driver string, fill func(testing.TB, string)) {
	ctx := context.Background()
	cfg := config.Config{GraphRoot: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), Driver: driver}
	s := open(t, cfg)
	base(t, cfg, s)
	image(t, s)
	for _, name := range []string{"mounted", "kept", "idle"} {
		if _, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id(name), Image: "img"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id("alone")}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mounted", "kept"} {
		if _, err := s.Mount(ctx, id(name), store.MountOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	garbage := map[string]string{"overlay": "overlay/", "vfs": "vfs/dir/"}[driver] + id("garbage")
	testutil.Tree(t, cfg.GraphRoot, garbage+"/diff/f=x")
	for _, step := range []struct {
		name string
		do   func(s *store.Store) error
		gone string
	}{
		{"unmount", func(s *store.Store) error {
			still, err := s.Unmount(ctx, id("kept"), false)
			if still {
				err = errors.Join(err, errors.New("still mounted"))
			}
			return err
		}, ""},
		{"delete a mounted container", func(s *store.Store) error {
			return s.DeleteContainer(ctx, id("mounted"), byForce)
		}, id("mounted")},
		{"delete a layer", func(s *store.Store) error { return s.DeleteLayer(ctx, id("alone"), plainly) }, id("alone")},
		{"delete a container", func(s *store.Store) error {
			return s.DeleteContainer(ctx, id("idle"), plainly)
		}, id("idle")},
		{"delete the last container", func(s *store.Store) error {
			return s.DeleteContainer(ctx, id("kept"), plainly)
		}, id("kept")},
		{"delete an image", func(s *store.Store) error {
			_, err := s.DeleteImage(ctx, "img", store.DeleteOptions{})
			return err
		}, "img"},
		{"collect garbage", func(s *store.Store) error {
			_, err := fsck.GC(ctx, s, fsck.GCOptions{})
			return err
		}, ""},
	} {
		s.Close()
		fill(t, dir)
		s = open(t, cfg)
		if err := step.do(s); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if err := s.Wait(ctx); err != nil {
			t.Errorf("%s: remove files: %v", step.name, err)
		}
		if step.gone != "" {
			err := s.View(ctx, func(tx *store.ReadTx) error {
				_, err := tx.Lookup(step.gone)
				return err
			})
			if !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("%s: it is still there: %v", step.name, err)
			}
		}
	}
	if _, err := os.Lstat(filepath.Join(cfg.GraphRoot, garbage)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("garbage is left: %v", err)
	}
	empty(t, filepath.Join(dir, "filler"))
	importLayer(t, s, id("after"), "", layerTar(t, "f"))
	if report, err := fsck.Check(ctx, s, fsck.CheckOptions{}); err != nil || !report.Empty() {
		t.Errorf("afterwards: %v, %v", report.Findings, err)
	}
}

// fillBlocks leaves no block free.
func fillBlocks(t testing.TB, dir string) {
	t.Helper()
	for size := 1 << 20; size > 0; size /= 4 {
		unix.Sync() // what is delayed may need less in the end than was set aside for it
		f, err := os.OpenFile(filepath.Join(dir, "filler-file"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if errors.Is(err, unix.ENOSPC) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		f.Close()
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}

// fillInodes leaves no inode free.
func fillInodes(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "filler"), 0o700); err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		f, err := os.CreateTemp(filepath.Join(dir, "filler"), "")
		if errors.Is(err, unix.ENOSPC) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}

// empty removes what a disk was filled with.
func empty(t testing.TB, filler string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(filler), os.RemoveAll(filler+"-file")); err != nil {
		t.Fatal(err)
	}
}
