package overlay_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
)

func TestMain(m *testing.M) { testutil.Main(m) }

func TestSmoke(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	d, err := overlay.Open(t.Context(), overlay.Options{Place: drivers.Place{Root: dir + "/g", RunRoot: dir + "/r"}})
	if err != nil {
		t.Fatal(err)
	}
	parent := ""
	for _, id := range []string{"Base1", "child1", "ro1"} {
		s, err := d.Stage(t.Context(), parent, drivers.StageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.Content(), id), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := s.Discard(); err != nil {
			t.Fatal(err)
		}
		parent = id
	}
	t.Log(d.Status(t.Context()))
	if err := d.PrepareHome(t.Context()); err != nil {
		t.Fatal(err)
	}
	specs, err := d.Mounts(t.Context(), "ro1", drivers.MountOptions{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := mount.Perform(t.Context(), specs[0]); err != nil {
		t.Fatal(err)
	}
	t.Log(os.ReadDir(specs[0].Target))
	mount.Unmount(specs[0].Target)
	if err := d.Unmounted(t.Context(), "ro1"); err != nil {
		t.Fatal(err)
	}
	if err := d.ReleaseHome(t.Context()); err != nil {
		t.Fatal(err)
	}
	for path, line := range testutil.Snapshot(t, dir) {
		t.Log(path, line)
	}
}
