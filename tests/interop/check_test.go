package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
)

// TestCheckOfPodmansStore has Debian's Podman and Buildah, which are years older than the
// peer, fill a root: check finds nothing wrong with it, what is then damaged is repaired,
// and Podman goes on with it.
func TestCheckOfPodmansStore(t *testing.T) {
	testutil.Root(t)
	podman, buildah := testutil.Tool(t, "podman", "podman"), testutil.Tool(t, "buildah", "buildah")
	dir := t.TempDir()
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	root, shale := harness.NewRoot(dir), harness.Shale(t)
	short, err := os.MkdirTemp("", "run") // Podman takes no run root of more than 50 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	root.Run = short
	tool := func(path string, args ...string) string {
		t.Helper()
		cmd := exec.Command(path, append([]string{"--root", root.Graph, "--runroot", root.Run, "--storage-driver",
			"overlay"}, args...)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v", filepath.Base(path), args, err)
		}
		return string(out[:max(len(out)-1, 0)])
	}
	sound := func(when string) {
		t.Helper()
		if out, err := root.Do(t.Context(), shale, "check"); err != nil || out != "" {
			t.Errorf("%s: %v\n%s", when, err, out)
		}
	}
	tool(podman, "import", "-q", harness.SmallArchive(t, dir, "first", 60, 100).Path, "first")
	sound("after an import")
	container := tool(buildah, "from", "first")
	mounted := tool(buildah, "mount", container)
	testutil.WriteFile(t, filepath.Join(mounted, "new/file"), []byte("new"), 0o600)
	if err := os.RemoveAll(filepath.Join(mounted, "first/000/1")); err != nil {
		t.Fatal(err)
	}
	sound("while a container is changed")
	tool(buildah, "umount", container)
	tool(buildah, "commit", "-q", container, "second")
	sound("after a commit")

	manifests, err := filepath.Glob(filepath.Join(root.Graph, "overlay-images/*/manifest"))
	if err != nil || len(manifests) != 2 {
		t.Fatalf("manifests %v, %v", manifests, err)
	}
	files, err := filepath.Glob(filepath.Join(root.Graph, "overlay/*/diff/first/000/47")) // a symlink
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, path := range append(manifests, files...) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := root.Do(t.Context(), shale, "check"); err == nil {
		t.Errorf("damage wasn't found: %s", out)
	}
	root.Must(t, shale, "check", "--repair")
	sound("after repair")
	if again := tool(buildah, "from", "second"); again == "" {
		t.Error("no container of the repaired image")
	}
	sound("in use again")
}
