package storageconf_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/config/storageconf"
	"github.com/shalestore/shale/idtools/userns"
)

// host is a made-up environment: a directory in place of / for the files that are
// searched, and a few variables.
type host struct {
	t    *testing.T
	root string
	env  map[string]string
	uid  uint32
	// canWrite stands in for the rights of the user.
	canWrite func(string) bool
}

func newHost(t *testing.T) *host {
	root := t.TempDir()
	return &host{t: t, root: root, env: map[string]string{"HOME": filepath.Join(root, "home/ann")}}
}

// write makes a file below the host's root and returns its path.
func (h *host) write(path, content string) string {
	h.t.Helper()
	path = filepath.Join(h.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func (h *host) environment() storageconf.Environment {
	return storageconf.Environment{
		Lookup:   func(name string) (string, bool) { v, ok := h.env[name]; return v, ok },
		Root:     h.root,
		Caller:   userns.Caller{UID: h.uid, GID: h.uid},
		Rootless: h.uid != 0,
		CanWrite: h.canWrite,
	}
}

func (h *host) load(o storageconf.Overrides) (storageconf.Settings, []storageconf.Warning, error) {
	s, err := h.environment().Load(o)
	return s, s.Warnings, err
}

// mustLoad fails the test on an error and on a warning.
func (h *host) mustLoad(o storageconf.Overrides) storageconf.Settings {
	h.t.Helper()
	c, warnings, err := h.load(o)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, w := range warnings {
		h.t.Errorf("unexpected warning: %s", w)
	}
	return c
}

func (h *host) origin(c storageconf.Settings, key string) string {
	return strings.TrimPrefix(c.Origins[key].String(), h.root)
}

func TestDefaultsOfRoot(t *testing.T) {
	c := newHost(t).mustLoad(storageconf.Overrides{})
	if c.GraphRoot != "/var/lib/containers/storage" || c.RunRoot != "/run/containers/storage" {
		t.Errorf("roots %s and %s", c.GraphRoot, c.RunRoot)
	}
	if c.Driver != "" || c.Rootless || c.AutoUserns != (config.AutoUserns{MinSize: 1024, MaxSize: 65536}) {
		t.Errorf("defaults: %+v", c)
	}
	for _, s := range c.List() {
		if s.Origin != (storageconf.Origin{}) {
			t.Errorf("%s = %q comes from %s", s.Key, s.Value, s.Origin)
		}
	}
}

func TestDefaultsOfAnOrdinaryUser(t *testing.T) {
	h := newHost(t)
	h.uid = 4711
	run := filepath.Join(h.root, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	h.env["XDG_RUNTIME_DIR"] = run
	c := h.mustLoad(storageconf.Overrides{})
	if want := filepath.Join(h.root, "home/ann/.local/share/containers/storage"); c.GraphRoot != want {
		t.Errorf("graph root %s, want %s", c.GraphRoot, want)
	}
	if want := filepath.Join(run, "containers"); c.RunRoot != want {
		t.Errorf("run root %s, want %s", c.RunRoot, want)
	}
	h.env["XDG_DATA_HOME"] = "/data"
	if c := h.mustLoad(storageconf.Overrides{}); c.GraphRoot != "/data/containers/storage" {
		t.Errorf("graph root %s", c.GraphRoot)
	}
}

// The last file wins key by key, and each setting knows its line.
func TestSearchPathAndDropIns(t *testing.T) {
	h := newHost(t)
	h.write("usr/share/containers/storage.conf", "[storage]\ndriver = \"vfs\"\nrunroot = \"/never\"\n")
	h.write("etc/containers/storage.conf",
		"# the host's\n[storage]\ndriver = \"overlay\"\ngraphroot = \"/srv/graph\"\n")
	h.write("usr/share/containers/storage.conf.d/10-size.conf", "[storage.options.overlay]\nsize = \"1G\"\n")
	h.write("usr/share/containers/storage.conf.d/20-hidden.conf", "[storage]\ngraphroot = \"/hidden\"\n")
	h.write("etc/containers/storage.conf.d/20-hidden.conf", "[storage.options.overlay]\ninodes = \"1000\"\n")
	h.write("etc/containers/storage.rootful.conf.d/30.conf",
		"\n[storage.options]\nsize=\"2g\"\n[storage.options.overlay]\nsync=\"filesystem\"\n")
	h.write("etc/containers/storage.rootless.conf.d/40.conf", "[storage]\ngraphroot = \"/rootless\"\n")
	h.write("etc/containers/storage.conf.d/README", "not = [toml")
	c := h.mustLoad(storageconf.Overrides{})
	if c.Driver != "overlay" || c.GraphRoot != "/srv/graph" || c.RunRoot != "/run/containers/storage" ||
		c.Overlay.Size != 1<<30 || c.Overlay.Inodes != 1000 || c.Overlay.Sync != "filesystem" {
		t.Errorf("got %+v", c)
	}
	for key, want := range map[string]string{
		"storage.driver":                 "/etc/containers/storage.conf:3",
		"storage.graphroot":              "/etc/containers/storage.conf:4",
		"storage.options.overlay.size":   "/usr/share/containers/storage.conf.d/10-size.conf:2",
		"storage.options.overlay.inodes": "/etc/containers/storage.conf.d/20-hidden.conf:2",
		"storage.options.overlay.sync":   "/etc/containers/storage.rootful.conf.d/30.conf:5",
		"storage.runroot":                "default",
	} {
		if got := h.origin(c, key); got != want {
			t.Errorf("%s comes from %s, want %s", key, got, want)
		}
	}
}
