package testutil

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const (
	shaleVariable = "SHALE_BINARY" // path of the binary under test, in place of a build of this tree
	peerVariable  = "SHALE_PEER"   // path of the containers-storage CLI

	// PeerVersion is the release of containers/storage that Shale is measured against.
	PeerVersion = "v1.64.2"
	peerModule  = "go.podman.io/storage/cmd/containers-storage@" + PeerVersion
	module      = "github.com/shalestore/shale"
	peerTags    = "exclude_graphdriver_btrfs containers_image_openpgp"
)

var built struct {
	sync.Mutex
	dir string // made by buildShale, removed by Main
}

// Shale returns the path of the shale binary under test: the one that the environment
// variable SHALE_BINARY names, or else this tree's, built once for the whole run.
func Shale(t testing.TB) string {
	t.Helper()
	path, err := buildShale()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func buildShale() (string, error) {
	built.Lock()
	defer built.Unlock()
	if path := os.Getenv(shaleVariable); path != "" {
		return filepath.Abs(path)
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	if built.dir, err = os.MkdirTemp("", "shale-bin-"); err != nil {
		return "", err
	}
	path := filepath.Join(built.dir, "shale")
	cmd := exec.Command(goTool(), "build", "-trimpath", "-o", path, "./cmd/shale")
	cmd.Dir = root
	// The tests of a module outside of go.work run with GOWORK=off.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK="+filepath.Join(root, "go.work"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build shale: %w: %s", err, out)
	}
	return path, os.Setenv(shaleVariable, path) // the tests' children find it there
}

// Peer returns the path of the peer's CLI, containers-storage v1.64.2: the one that
// SHALE_PEER names, or else one that it installs through the Go proxy into the cache
// directory, where the next run finds it. It skips the test, with the reason, when that
// can't be done.
func Peer(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 || !OnHost() {
		// It would have to enter a user namespace, which it does in C. Without that it
		// only starts itself again, without end; in a namespace that it didn't make, too.
		t.Skip("needs the host's root: the peer without cgo doesn't know ordinary users")
	}
	path, err := InstallPeer()
	if err != nil {
		t.Skipf("needs containers-storage %s: %v", PeerVersion, err)
	}
	return path
}

// InstallPeer is Peer for where there is no testing.TB.
func InstallPeer() (string, error) {
	built.Lock()
	defer built.Unlock()
	if path := os.Getenv(peerVariable); path != "" {
		return filepath.Abs(path)
	}
	dir := filepath.Join(CacheDir(), "peer-"+PeerVersion)
	path := filepath.Join(dir, "containers-storage")
	if _, err := os.Stat(path); err != nil {
		// Installed aside and renamed, so that two test binaries at once never see half
		// of it.
		if err := os.MkdirAll(CacheDir(), 0o755); err != nil {
			return "", err
		}
		aside, err := os.MkdirTemp(CacheDir(), "peer-")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(aside)
		cmd := exec.Command(goTool(), "install", "-trimpath", "-tags", peerTags, peerModule)
		cmd.Dir = aside
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+aside, "GOFLAGS=", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go install %s: %w: %s", peerModule, err, out)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		if err := os.Rename(filepath.Join(aside, "containers-storage"), path); err != nil {
			return "", err
		}
	}
	return path, os.Setenv(peerVariable, path)
}

// CacheDir is where tests keep between runs what is slow to get: the peer's binary,
// archives from the network. SHALE_TEST_CACHE names another place.
func CacheDir() string {
	if dir := os.Getenv("SHALE_TEST_CACHE"); dir != "" {
		return dir
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "shale-test")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("shale-test-cache-%d", os.Getuid()))
}

// ModuleRoot is the directory of this module's go.mod, found upwards from the working
// directory.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		// Modules within this one have a longer name.
		if mod, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil &&
			strings.Contains(string(mod), "module "+module+"\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = parent
	}
}

// GoRoot is the directory of the Go toolchain, a real tree of some ten thousand files.
func GoRoot(t testing.TB) string {
	t.Helper()
	out, err := exec.Command(goTool(), "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("needs the go command: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// goTool finds the go command also where a bare shell's PATH lacks it.
func goTool() string {
	for _, name := range []string{"go", "/usr/local/go/bin/go"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return "go"
}
