package graphdriver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	shale "github.com/shalestore/shale/compat/graphdriver"
	"github.com/shalestore/shale/internal/testutil"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/drivers/graphtest"
	"go.podman.io/storage/pkg/reexec"
)

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	// This program links no driver of the library's, so the names are free.
	graphdriver.MustRegister("overlay", shale.Overlay)
	graphdriver.MustRegister("overlay2", shale.Overlay)
	graphdriver.MustRegister("vfs", shale.VFS)
	testutil.Main(m)
}

// forEach runs fn on a driver of each name, on a file system of its own.
func forEach(t *testing.T, fn func(t *testing.T, name string)) {
	for _, name := range []string{"overlay", "vfs"} {
		t.Run(name, func(t *testing.T) {
			testutil.HostRoot(t)
			t.Setenv("TMPDIR", testutil.LoopFS(t, "ext4", 512))
			fn(t, name)
		})
	}
}

func TestCreateEmpty(t *testing.T) {
	forEach(t, func(t *testing.T, name string) { graphtest.DriverTestCreateEmpty(t, name) })
}

func TestCreateBase(t *testing.T) {
	forEach(t, func(t *testing.T, name string) { graphtest.DriverTestCreateBase(t, name) })
}

func TestCreateSnap(t *testing.T) {
	forEach(t, func(t *testing.T, name string) { graphtest.DriverTestCreateSnap(t, name) })
}

func TestCreateFromTemplate(t *testing.T) {
	forEach(t, func(t *testing.T, name string) { graphtest.DriverTestCreateFromTemplate(t, name) })
}

// The deepest stack that the kernel mounts. A copying driver needs room for every layer
// beneath each, so fewer must do for vfs.
func TestDeepLayerRead(t *testing.T) {
	depth := map[string]int{"overlay": 500, "vfs": 50}
	forEach(t, func(t *testing.T, name string) { graphtest.DriverTestDeepLayerRead(t, depth[name], name) })
}

func TestDiffApply(t *testing.T) {
	forEach(t, func(t *testing.T, name string) { graphtest.DriverTestDiffApply(t, 100, name) })
}

func TestChanges(t *testing.T) {
	forEach(t, func(t *testing.T, name string) { graphtest.DriverTestChanges(t, name) })
}

func TestEcho(t *testing.T) {
	forEach(t, func(t *testing.T, name string) { graphtest.DriverTestEcho(t, name) })
}

func TestListLayers(t *testing.T) {
	forEach(t, func(t *testing.T, name string) { graphtest.DriverTestListLayers(t, name) })
}

// The suite expects EDQUOT, which ext4 says. XFS says ENOSPC for projects
// (xfs_trans_dqresv in fs/xfs/xfs_trans_dquot.c), on which the suite fails with any
// driver.
func TestSetQuota(t *testing.T) {
	t.Setenv("TMPDIR", testutil.QuotaFS(t, "ext4").Dir)
	graphtest.DriverTestSetQuota(t, "overlay")
}

// With options by which an overlay layer's own directory doesn't tell everything, layers
// are compared as they are mounted.
func TestWithoutNativeDiff(t *testing.T) {
	for _, options := range []string{"overlay.mountopt=metacopy=on", "overlay.mountopt=redirect_dir=on"} {
		t.Run(options, func(t *testing.T) {
			testutil.HostRoot(t)
			t.Setenv("TMPDIR", testutil.LoopFS(t, "ext4", 256))
			graphtest.DriverTestDiffApply(t, 10, "overlay", options)
			graphtest.DriverTestChanges(t, "overlay", options)
			graphtest.DriverTestEcho(t, "overlay", options)
			graphtest.DriverTestCreateFromTemplate(t, "overlay", options)
		})
	}
}

// So it is with a mount program, whose mounts the kernel's overlayfs knows nothing of.
func TestMountProgram(t *testing.T) {
	testutil.HostRoot(t)
	options := "overlay.mount_program=" + testutil.Tool(t, "fuse-overlayfs", "fuse-overlayfs")
	t.Setenv("TMPDIR", testutil.LoopFS(t, "ext4", 256))
	t.Run("together", func(t *testing.T) {
		graphtest.DriverTestCreateBase(t, "overlay", options)
		graphtest.DriverTestCreateSnap(t, "overlay", options)
		graphtest.DriverTestDiffApply(t, 10, "overlay", options)
		graphtest.DriverTestChanges(t, "overlay", options)
		graphtest.DriverTestEcho(t, "overlay", options)
	})
	t.Run("alone", func(t *testing.T) { graphtest.DriverTestListLayers(t, "overlay", options) })
}

// A layer that force_mask has made keeps the mode that its root directory should have,
// and gives it to a layer above that was made without.
func TestForceMask(t *testing.T) {
	testutil.HostRoot(t)
	t.Setenv("TMPDIR", testutil.LoopFS(t, "ext4", 64))
	d := graphtest.GetDriver(t, "overlay", "overlay.force_mask=700")
	if err := d.Create("lower", "", nil); err != nil {
		t.Fatal(err)
	}
	graphtest.ReconfigureDriver(t, "overlay")
	if err := d.Create("upper", "lower", nil); err != nil {
		t.Fatal(err)
	}
	root, err := d.Get("upper", graphdriver.MountOpts{})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(root); err != nil || st.Mode().Perm() != 0o555 {
		t.Errorf("the root directory has %v, %v", st.Mode(), err)
	}
	if err := d.Put("upper"); err != nil {
		t.Error(err)
	}
}

// Equal files of two layers come to share their blocks, where the file system can.
func TestDedup(t *testing.T) {
	testutil.HostRoot(t)
	t.Setenv("TMPDIR", testutil.LoopFS(t, "btrfs", 256))
	d := graphtest.GetDriver(t, "overlay")
	content := testutil.Noise("twice", 1<<20)
	for _, id := range []string{"one", "two"} {
		if err := d.Create(id, "", nil); err != nil {
			t.Fatal(err)
		}
		dir, err := d.Get(id, graphdriver.MountOpts{})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), content, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := d.Put(id); err != nil {
			t.Fatal(err)
		}
	}
	args := graphdriver.DedupArgs{Layers: []string{"one", "gone", "two"}}
	if _, err := d.Dedup(args); err == nil {
		t.Error("no hash method is one too")
	}
	args.Options.HashMethod = 3 // SHA-256
	if result, err := d.Dedup(args); err != nil || result.Deduped != 1<<20 {
		t.Errorf("shared %d, %v", result.Deduped, err)
	}
}

func benchEach(b *testing.B, fn func(b *testing.B, name string)) {
	for _, name := range []string{"overlay", "vfs"} {
		b.Run(name, func(b *testing.B) {
			testutil.HostRoot(b)
			b.Setenv("TMPDIR", testutil.LoopFS(b, "ext4", 2048))
			fn(b, name)
		})
	}
}

func BenchmarkExists(b *testing.B) {
	benchEach(b, func(b *testing.B, name string) { graphtest.DriverBenchExists(b, name) })
}

func BenchmarkGetEmpty(b *testing.B) {
	benchEach(b, func(b *testing.B, name string) { graphtest.DriverBenchGetEmpty(b, name) })
}

func BenchmarkDiffBase(b *testing.B) {
	benchEach(b, func(b *testing.B, name string) { graphtest.DriverBenchDiffBase(b, name) })
}

func BenchmarkDiffSmallUpper(b *testing.B) {
	benchEach(b, func(b *testing.B, name string) { graphtest.DriverBenchDiffN(b, 10, 10, name) })
}

func BenchmarkDiff10KFileUpper(b *testing.B) {
	benchEach(b, func(b *testing.B, name string) { graphtest.DriverBenchDiffN(b, 10, 10000, name) })
}

func BenchmarkDiff10KFilesBottom(b *testing.B) {
	benchEach(b, func(b *testing.B, name string) { graphtest.DriverBenchDiffN(b, 10000, 10, name) })
}

// The suite's own DriverBenchDiffApplyN applies options without a diff, which every
// driver refuses. This is what it means.
func BenchmarkDiffApply100Files(b *testing.B) {
	benchEach(b, func(b *testing.B, name string) {
		d := graphtest.GetDriver(b, name)
		if err := errors.Join(d.Create("base", "", nil), d.Create("upper", "base", nil)); err != nil {
			b.Fatal(err)
		}
		dir, err := d.Get("upper", graphdriver.MountOpts{})
		if err != nil {
			b.Fatal(err)
		}
		for i := range 100 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), testutil.Noise(fmt.Sprint(i), 64),
				0o644); err != nil {
				b.Fatal(err)
			}
		}
		if err := d.Put("upper"); err != nil {
			b.Fatal(err)
		}
		for n := 0; b.Loop(); n++ {
			copied := fmt.Sprint("copy", n)
			if err := d.Create(copied, "base", nil); err != nil {
				b.Fatal(err)
			}
			diff, err := d.Diff("upper", nil, "base", nil, "")
			if err != nil {
				b.Fatal(err)
			}
			if _, err := d.ApplyDiff(copied, graphdriver.ApplyDiffOpts{Diff: diff}); err != nil {
				b.Fatal(err)
			}
			if err := diff.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDiff20Layers(b *testing.B) {
	benchEach(b, func(b *testing.B, name string) { graphtest.DriverBenchDeepLayerDiff(b, 20, name) })
}

func BenchmarkRead20Layers(b *testing.B) {
	benchEach(b, func(b *testing.B, name string) { graphtest.DriverBenchDeepLayerRead(b, 20, name) })
}
