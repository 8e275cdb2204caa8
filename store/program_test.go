package store_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/mount"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

// withProgram is a configuration with a mount program, or the test is skipped.
func withProgram(t *testing.T, program string) config.Config {
	t.Helper()
	testutil.Root(t)
	if program == "" {
		program = testutil.Tool(t, "fuse-overlayfs", "fuse-overlayfs")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/fuse: %v", err)
	}
	f.Close()
	cfg := roots(t)
	cfg.Overlay.MountProgram = program
	return cfg
}

// Whiteouts of layers and of mounts come through a mount program, and out of it in a
// diff.
func TestLifeWithMountProgram(t *testing.T) {
	ctx := t.Context()
	s := open(t, withProgram(t, ""))
	importLayer(t, s, id("base"), "", layerTar(t, "a", "dir/b", "dir/c", "gone/x"))
	importLayer(t, s, id("second"), id("base"), layerTar(t, "dir/.wh.b", "dir/d"))
	work, err := s.CreateLayer(ctx, layers.CreateOptions{Parent: id("second"), Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.Mount(ctx, work.ID, store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a": true, "dir/b": false, "dir/c": true, "dir/d": true,
		"dir/.wh.b": false} {
		if _, err := os.Lstat(filepath.Join(path, name)); (err == nil) != want {
			t.Errorf("mounted, %s: %v", name, err)
		}
	}
	for _, err := range []error{
		os.Remove(filepath.Join(path, "a")), os.RemoveAll(filepath.Join(path, "gone")),
		os.Mkdir(filepath.Join(path, "gone"), 0o755),
		os.WriteFile(filepath.Join(path, "gone/new"), []byte("new"), 0o644),
		os.WriteFile(filepath.Join(path, "dir/c"), []byte("changed"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Unmount(ctx, work.ID, false); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for r := tar.NewReader(bytes.NewReader(export(t, s, work.ID))); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[filepath.Clean(h.Name)] = true
	}
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names,
		[]string{".wh.a", "dir", "dir/c", "gone", "gone/.wh..wh..opq", "gone/new"}) {
		t.Errorf("the diff holds %q", names)
	}
	if mounts, err := testutil.MountsBelow(s.Config().GraphRoot); err != nil || len(mounts) > 1 {
		t.Errorf("left mounted: %q (%v)", mounts, err) // the home itself may be
	}
}

// A mount program that dies leaves a mount on which every access fails. The next mount
// takes its place, and so does a deletion.
func TestDeadMountProgram(t *testing.T) {
	ctx := t.Context()
	pidFile := filepath.Join(t.TempDir(), "pid")
	program := filepath.Join(t.TempDir(), "program")
	fuse := testutil.Tool(t, "fuse-overlayfs", "fuse-overlayfs")
	script := "#!/bin/sh\n" + fuse + " -f \"$@\" >/dev/null 2>&1 &\necho $! >" + pidFile +
		"\nuntil mountpoint -q \"$3\"; do sleep 0.01; done\n"
	testutil.WriteFile(t, program, []byte(script), 0o755)
	s := open(t, withProgram(t, program))
	importLayer(t, s, id("base"), "", layerTar(t, "a"))
	kill := func(path string) {
		t.Helper()
		text, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for !mount.IsDead(path) { // the kernel finds out at once
		}
	}
	for range 2 {
		path, err := s.Mount(ctx, id("base"), store.MountOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(path, "a")); err != nil {
			t.Error(err)
		}
		kill(path)
	}
	err := s.Delete(ctx, id("base"), store.DeleteOptions{Force: true})
	if err != nil {
		t.Error(err)
	}
	if mounts, err := testutil.MountsBelow(s.Config().GraphRoot); err != nil || len(mounts) > 1 {
		t.Errorf("left mounted: %q (%v)", mounts, errors.Join(err))
	}
}
