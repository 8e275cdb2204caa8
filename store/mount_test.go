package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/mount"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

// A layer whose parent's files are gone can't be mounted. The error names what is
// missing, and no mount is left or counted.
func TestMountWithoutItsParent(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	s := open(t, cfg)
	base(t, cfg, s)
	if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id("top"), Parent: "base"}); err != nil {
		t.Fatal(err)
	}
	diff := filepath.Join(cfg.GraphRoot, "overlay", id("base"), "diff")
	for _, readOnly := range []bool{false, true} {
		if err := os.Rename(diff, diff+".away"); err != nil {
			t.Fatal(err)
		}
		_, err := s.Mount(ctx, id("top"), store.MountOptions{ReadOnly: readOnly})
		if !errors.Is(err, errdefs.ErrCorrupt) || !strings.Contains(err.Error(), diff) ||
			!strings.Contains(err.Error(), id("top")) {
			t.Errorf("mount: %v", err)
		}
		if err := os.Rename(diff+".away", diff); err != nil {
			t.Fatal(err)
		}
		if n, err := timesMounted(s, id("top")); err != nil || n != 0 {
			t.Fatalf("%d mounts counted, %v", n, err)
		}
		if _, err := s.Mount(ctx, id("top"), store.MountOptions{ReadOnly: readOnly}); err != nil {
			t.Fatal(err)
		}
		if still, err := s.Unmount(ctx, id("top"), false); err != nil || still {
			t.Fatalf("still mounted: %v, %v", still, err)
		}
	}
}

// A graph root that has become read-only can be read, mounted from and unmounted, also by
// the first process after the home's own mount has gone.
func TestReadOnlyGraphRoot(t *testing.T) {
	testutil.Root(t)
	ctx := t.Context()
	cfg := roots(t)
	s := open(t, cfg)
	base(t, cfg, s)
	if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id("top"), Parent: "base"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Shutdown(ctx, true); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY} {
		if err := unix.Mount(cfg.GraphRoot, cfg.GraphRoot, "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unix.Unmount(cfg.GraphRoot, unix.MNT_DETACH) })
	s = open(t, cfg)
	path, err := s.Mount(ctx, id("top"), store.MountOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(path); err != nil || len(entries) == 0 {
		t.Errorf("mounted: %v, %v", entries, err)
	}
	if still, err := s.Unmount(ctx, id("top"), false); err != nil || still {
		t.Errorf("still mounted: %v, %v", still, err)
	}
	if _, err := s.Mount(ctx, id("top"), store.MountOptions{}); err == nil {
		t.Error("a mount for writing on a read-only file system")
	}
	if err := s.DeleteLayer(ctx, id("top"), store.DeleteOptions{Force: true}); !errors.Is(err, unix.EROFS) {
		t.Errorf("delete: %v", err)
	}
}

// The vfs driver mounts nothing, so nothing is unmounted: what somebody else has mounted
// on a layer stays.
func TestUnmountOfWhatNeedsNoMount(t *testing.T) {
	testutil.Root(t)
	ctx, cfg := t.Context(), roots(t)
	cfg.Driver = "vfs"
	s := open(t, cfg)
	importLayer(t, s, id("base"), "", layerTar(t, "f"))
	at, err := s.Mount(ctx, id("base"), store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	for range 2 {
		if still, err := s.Unmount(ctx, id("base"), true); still || err != nil {
			t.Errorf("unmount: %t, %v", still, err)
		}
	}
	if is, err := mount.IsMountPoint(at); !is || err != nil {
		t.Errorf("what was mounted there is gone (%v)", err)
	}
}
