package rootless

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
)

// builtTests names, to a child process, the package's test binary.
const builtTests = "SHALE_ROOTLESS_TESTS"

// The tests that packages have of their own pass as root of an ordinary user's namespace,
// once with one ID and once with 65,536. What needs the host's root is skipped, and
// something must be left.
func TestPackages(t *testing.T) {
	testutil.FuseForAll(t)
	for _, c := range []struct {
		pkg, run string
		oneID    bool
	}{
		{"drivers/overlay", "", true},
		{"drivers/vfs", "", true},
		{"mount", "", true},
		{"store", "AdditionalLayer$|TestReadOnlyStore|ImageStore|StoreThatChanges|FromTar|Mount", false},
		{"store/fsck", "ImageStore|Mounted", false},
	} {
		t.Run(strings.ReplaceAll(c.pkg, "/", "-"), func(t *testing.T) {
			if c.oneID {
				t.Run("one ID", func(t *testing.T) { testPackage(t, c.pkg, c.run, testutil.AsUser) })
			}
			t.Run("subordinate IDs", func(t *testing.T) {
				testutil.Tool(t, "newuidmap", "uidmap")
				testPackage(t, c.pkg, c.run, testutil.AsUserWithSubIDs)
			})
		})
	}
}

func testPackage(t *testing.T, pkg, run string, asUser func(*testing.T) bool) {
	shale, binary := harness.Shale(t), os.Getenv(builtTests)
	if binary == "" {
		root, err := testutil.ModuleRoot()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = testutil.InstallPeer() // what wants it finds it then, or skips
		dir := t.TempDir()
		binary = filepath.Join(dir, "tests")
		build := exec.Command("go", "test", "-c", "-o", binary, "./"+pkg)
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the tests: %v: %s", err, out)
		}
		for ; dir != os.TempDir(); dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv(builtTests, binary)
	}
	if !asUser(t) {
		return
	}
	cmd := harness.NewRoot(t.TempDir()).Command(t.Context(), shale, "unshare", binary, "-test.v", "-test.run="+run,
		"-test.skip=InUserNamespace|AsOrdinaryUser")
	cmd.Dir = t.TempDir()
	cmd.Env = testutil.Anew(cmd.Env) // they are root again, with a mount namespace of their own to come
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	if !strings.Contains(string(out), "\n--- PASS: ") {
		t.Errorf("none of the tests can be run:\n%s", out)
	}
}
