package overlay

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
)

// Of two processes that open a new store at the same time, one mounts the home on itself
// while the other probes in it.
func TestProbeWhileTheHomeIsMountedOnItself(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	d, err := Open(t.Context(), Options{Place: drivers.Place{Root: filepath.Join(dir, "root"),
		RunRoot: filepath.Join(dir, "run")}})
	if err != nil {
		t.Fatal(err)
	}
	home := d.homes.Own[0]
	err = d.try(t.Context(), home, nil, nil, func(p probe) error {
		if err := mount.MakePrivate(home); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(p.merged, "f"), nil, 0o600)
	})
	if err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(home, drivers.TempDirs)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := d.ReleaseHome(t.Context()); err != nil {
		t.Error(err)
	}
}
