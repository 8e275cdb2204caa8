package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/mount"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

// The table of mounts is a file that others write. Whatever path it has for a layer, only
// the layer's own mount point is unmounted or handed out.
func TestForeignPathInTheTableOfMounts(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	s := open(t, cfg)
	base(t, cfg, s)
	image(t, s)
	box, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "img"})
	if err != nil {
		t.Fatal(err)
	}
	own, err := s.Mount(ctx, box.ID, store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(filepath.Dir(cfg.GraphRoot), "foreign")
	if err := errors.Join(os.Mkdir(foreign, 0o755), unix.Mount("tmpfs", foreign, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	table := filepath.Join(cfg.RunRoot, "overlay-layers", "mountpoints.json")
	sound, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	// list writes a path into the table, and opens the store anew.
	list := func(path string) {
		t.Helper()
		content := strings.Replace(string(sound), own, path, 1)
		if err := os.WriteFile(table, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s = open(t, cfg)
	}
	mounted := func(what string, paths ...string) {
		t.Helper()
		for _, path := range paths {
			if is, err := mount.IsMountPoint(path); !is || err != nil {
				t.Errorf("%s: nothing is mounted on %s any more (%v)", what, path, err)
			}
		}
		if n, err := countOf(s, box.ID); n != 1 || err != nil {
			t.Errorf("%s: the count is %d, %v", what, n, err)
		}
	}
	for what, do := range map[string]func() error{
		"unmount": func() error { _, err := s.Unmount(ctx, box.ID, false); return err },
		"force":   func() error { _, err := s.Unmount(ctx, box.ID, true); return err },
		"mount":   func() error { _, err := s.Mount(ctx, box.ID, store.MountOptions{}); return err },
		"delete":  func() error { return s.DeleteContainer(ctx, box.ID, byForce) },
	} {
		for _, path := range []string{foreign, filepath.Dir(own), "/", "relative", filepath.Join(own, "..", "work")} {
			list(path)
			var corrupt errdefs.CorruptFile
			if err := do(); !errors.As(err, &corrupt) || corrupt.Path != table || !strings.Contains(err.Error(), path) {
				t.Errorf("%s, listed on %s: %v", what, path, err)
			}
			mounted(what+", listed on "+path, own, foreign)
		}
	}
	// Another name of the same place is that place.
	other := filepath.Join(filepath.Dir(cfg.GraphRoot), "other")
	if err := os.Symlink(cfg.GraphRoot, other); err != nil {
		t.Fatal(err)
	}
	list(filepath.Join(other, strings.TrimPrefix(own, cfg.GraphRoot)))
	if still, err := s.Unmount(ctx, box.ID, false); still || err != nil {
		t.Errorf("by another name: %t, %v", still, err)
	}
	if is, err := mount.IsMountPoint(own); is || err != nil {
		t.Errorf("by another name: still mounted (%v)", err)
	}
}

// countOf is how many users a mount has.
func countOf(s *store.Store, ref string) (n int, err error) {
	err = s.View(context.Background(), func(tx *store.ReadTx) error {
		n, err = tx.Mounted(ref)
		return err
	})
	return n, err
}

// What fails once a layer is unmounted doesn't bring its count back: it could never be
// unmounted again.
func TestFailureAfterUnmount(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	s := open(t, cfg)
	base(t, cfg, s)
	image(t, s)
	box, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "img"})
	if err != nil {
		t.Fatal(err)
	}
	own, err := s.Mount(ctx, box.ID, store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own+".1", nil, 0o600); err != nil { // where the fresh mount point would be made
		t.Fatal(err)
	}
	if _, err := s.Unmount(ctx, box.ID, false); err == nil {
		t.Error("no error")
	}
	n, err := countOf(s, box.ID)
	is, merr := mount.IsMountPoint(own)
	if n != 0 || is || err != nil || merr != nil {
		t.Errorf("afterwards the count is %d, mounted %t: %v, %v", n, is, err, merr)
	}
	if _, err := s.Mount(ctx, box.ID, store.MountOptions{}); err != nil {
		t.Errorf("it can't be mounted again: %v", err)
	}
}
