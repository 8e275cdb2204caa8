package graphdriver

import (
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

// The deepest stack that the kernel mounts. A copying driver needs room for every layer beneath each, so fewer must do for vfs.
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

// With options by which an overlay layer's own directory doesn't tell everything, layers are compared as they are mounted.
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

func BenchmarkDiff20Layers(b *testing.B) {
	benchEach(b, func(b *testing.B, name string) { graphtest.DriverBenchDeepLayerDiff(b, 20, name) })
}

func BenchmarkRead20Layers(b *testing.B) {
	benchEach(b, func(b *testing.B, name string) { graphtest.DriverBenchDeepLayerRead(b, 20, name) })
}
