package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
)

// confFile writes a storage.conf and makes it the one that is read.
func confFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "storage.conf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_STORAGE_CONF", path)
	return path
}

const conf = `[storage]
driver = "overlay"
runroot = "/run/elsewhere"
graphroot = "/var/elsewhere"
[storage.options]
additionalimagestores = ["/"]
auto-userns-min-size = 2048
[storage.options.pull_options]
enable_partial_images = "true"
[storage.options.overlay]
mountopt = "nodev"
size = "1G"
`

func TestConfigOrigins(t *testing.T) {
	path := confFile(t, conf)
	got := in(t, "", "config")
	if got.status != 0 {
		t.Fatal(got.stderr)
	}
	for _, want := range [][]string{
		{"storage.graphroot", "/var/elsewhere", path + ":4"},
		{"storage.options.overlay.mountopt", "nodev", path + ":11"},
		{"storage.transient_store", "false", "default"},
	} {
		found := false
		for line := range strings.Lines(got.stdout) {
			fields := strings.Fields(line)
			found = found || len(fields) == 3 && fields[0] == want[0] && fields[1] == want[1] && fields[2] == want[2]
		}
		if !found {
			t.Errorf("no line %v in\n%s", want, got.stdout)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	confFile(t, conf)
	if got := in(t, "", "config", "--check"); got.status != 0 || got.stdout != "" || got.stderr != "" {
		t.Errorf("a sound file: status %d, %q, %q", got.status, got.stdout, got.stderr)
	}
	for text, says := range map[string]string{
		conf + "novelty = 1\n":       ":13",
		"[storage]\ngraphroot = 7\n": ":2",
		"[storage\n":                 ":1",
	} {
		path := confFile(t, text)
		for _, args := range [][]string{{"config", "--check"}, {"config", "--check", path}} {
			if got := in(t, "", args...); got.status != 3 || !strings.Contains(got.stderr, path+says) {
				t.Errorf("%v of %q: status %d, %q", args, text, got.status, got.stderr)
			}
		}
	}
}

// A key that Shale doesn't know may belong to a newer program: it is worth a warning and
// no more.
func TestConfigWarns(t *testing.T) {
	path := confFile(t, conf+"novelty = 1\n")
	got := in(t, "", "config", "--json")
	if got.status != 0 || !strings.Contains(got.stderr, path+":13") || !strings.HasPrefix(got.stdout, "[") {
		t.Errorf("status %d, %q, %q", got.status, got.stdout, got.stderr)
	}
	// Who asks about layers isn't told.
	dir := t.TempDir()
	confFile(t, "[storage]\ndriver = \"vfs\"\ngraphroot = \""+dir+"/g\"\nrunroot = \""+dir+"/r\"\nnovelty = 1\n")
	if err := os.MkdirAll(dir+"/g/vfs", 0o700); err != nil {
		t.Fatal(err)
	}
	if got := in(t, "", "layers"); got.status != 0 || got.stderr != "" {
		t.Errorf("layers: status %d, %q", got.status, got.stderr)
	}
}

func TestConfigLikePeer(t *testing.T) {
	testutil.Root(t) // the peer needs more than one ID
	path := testutil.Peer(t)
	for _, text := range []string{"", conf, `[storage]
driver_priority = ["overlay", "vfs"]
transient_store = true
[storage.options]
disable-volatile = true
root-auto-userns-user = "containers"
auto-userns-max-size = 4096
[storage.options.overlay]
ignore_chown_errors = "true"
mount_program = "/bin/true"
`} {
		confFile(t, text)
		dir := t.TempDir()
		// With roots of its own the peer reads the file only to print it; without, it
		// would open the store that the file describes.
		there := &stores{t: t, flags: []string{"--graph", dir + "/root", "--run", dir + "/run", "--storage-driver",
			"vfs"}}
		sameOutput(t, []string{"config", text}, inAs(t, peerName, "", "config"), runPeer(t, path, there, "", "config"))
	}
}
