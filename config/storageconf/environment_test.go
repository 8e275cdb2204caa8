package storageconf_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/config/storageconf"
	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

func TestEnvironment(t *testing.T) {
	h := newHost(t)
	h.write("etc/containers/storage.conf",
		"[storage]\ndriver = \"overlay\"\n[storage.options.overlay]\nsize = \"1G\"\nmountopt = \"nodev\"\n")
	h.write("etc/containers/storage.conf.d/a.conf", "[storage]\ngraphroot = \"/dropin\"\n")
	own := h.write("own.conf", "[storage]\ngraphroot = \"/own\"\n")
	over := h.write("over.conf", "[storage]\nrunroot = \"/over\"\n")

	h.env["STORAGE_DRIVER"] = "overlay2"
	c, warnings, err := h.load(storageconf.Overrides{})
	if err != nil || c.Driver != "overlay" || len(warnings) != 1 ||
		h.origin(c, "storage.driver") != "environment STORAGE_DRIVER" {
		t.Errorf("%q, %v, %v", c.Driver, warnings, err)
	}
	h.env["STORAGE_DRIVER"] = ""
	h.env["STORAGE_OPTS"] = "overlay.inodes=5, VFS.ignore_chown_errors = true ,sync=none,zfs.anything=1"
	c = h.mustLoad(storageconf.Overrides{})
	if c.Overlay.Size != 0 || c.Overlay.MountOptions != nil || c.Overlay.Inodes != 5 || c.Overlay.Sync != "none" ||
		c.VFS.IgnoreChownErrors {
		t.Errorf("STORAGE_OPTS takes the place of the files' driver options: %+v, %+v", c.Overlay, c.VFS)
	}
	if o := h.origin(c, "storage.options.overlay.inodes"); o != "environment STORAGE_OPTS" {
		t.Errorf("inodes come from %s", o)
	}
	h.env["STORAGE_OPTS"] = ""
	if c := h.mustLoad(storageconf.Overrides{}); c.Overlay.Size != 0 {
		t.Errorf("an empty STORAGE_OPTS takes away driver options, as in containers-storage: %+v", c.Overlay)
	}
	for opts, want := range map[string]string{
		"overlay.mountopt=nodev,metacopy": "storage.conf",
		"mountopt=nodev,metacopy=on":      "no such option",
		"overlay.colour=grey":             "no such option",
		"thinpool.size=1":                 "unknown driver",
		"size=big":                        "not a size",
		"skip_mount_home=":                "neither",
	} {
		h.env["STORAGE_OPTS"] = opts
		if _, _, err := h.load(storageconf.Overrides{}); !errors.Is(err, errdefs.ErrInvalid) ||
			!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "environment STORAGE_OPTS") {
			t.Errorf("STORAGE_OPTS=%s: %v", opts, err)
		}
	}
	delete(h.env, "STORAGE_OPTS")

	h.env["CONTAINERS_STORAGE_CONF"] = own
	h.env["CONTAINERS_STORAGE_CONF_OVERRIDE"] = over
	c = h.mustLoad(storageconf.Overrides{})
	if c.GraphRoot != "/own" || c.RunRoot != "/over" || c.Driver != "" {
		t.Errorf("%+v", c)
	}
	if want := []string{own, over}; !reflect.DeepEqual(c.Files, want) {
		t.Errorf("read %q, want %q", c.Files, want)
	}
	for name, value := range map[string]string{"CONTAINERS_STORAGE_CONF": own + "-missing",
		"CONTAINERS_STORAGE_CONF_OVERRIDE": over + "-missing"} {
		before := h.env[name]
		h.env[name] = value
		if _, _, err := h.load(storageconf.Overrides{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
		h.env[name] = before
	}
	h.env["CONTAINERS_STORAGE_CONF"] = "/dev/null"
	h.env["CONTAINERS_STORAGE_CONF_OVERRIDE"] = ""
	if c := h.mustLoad(storageconf.Overrides{}); c.Driver != "" || c.GraphRoot != "/var/lib/containers/storage" {
		t.Errorf("%+v", c)
	}
	h.env["CONTAINERS_STORAGE_CONF"] = ""
	h.env["XDG_CONFIG_HOME"] = "relative"
	if _, _, err := h.load(storageconf.Overrides{}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a relative XDG_CONFIG_HOME: %v", err)
	}
	h.env["XDG_CONFIG_HOME"] = h.root + "/xdg"
	h.write("xdg/containers/storage.conf", "[storage]\ndriver = \"vfs\"\n")
	h.write("xdg/containers/storage.conf.d/a.conf", "[storage]\nrunroot = \"/mine\"\n")
	if c := h.mustLoad(storageconf.Overrides{}); c.Driver != "vfs" || c.RunRoot != "/mine" ||
		c.GraphRoot != "/var/lib/containers/storage" {
		t.Errorf("%+v", c)
	}
}

// The command line switches the files off as soon as it says where the store is or how to
// drive it.
func TestCommandLine(t *testing.T) {
	h := newHost(t)
	h.write("etc/containers/storage.conf", `[storage]
driver = "vfs"
graphroot = "/file/graph"
runroot = "/file/run"
imagestore = "/file/images"
[storage.options]
auto-userns-min-size = 5
`)
	h.env["STORAGE_DRIVER"] = "vfs"
	h.env["STORAGE_OPTS"] = "nonsense"
	yes, no := true, false
	for _, tt := range []struct {
		over  storageconf.Overrides
		check func(c storageconf.Settings) bool
	}{
		{storageconf.Overrides{GraphRoot: "/g", RunRoot: "/r"}, func(c storageconf.Settings) bool {
			return c.GraphRoot == "/g" && c.RunRoot == "/r" && c.Driver == "" && c.ImageStore == "" &&
				c.AutoUserns.MinSize == 1024 && c.Files == nil
		}},
		{storageconf.Overrides{GraphRoot: "/g"}, func(c storageconf.Settings) bool {
			return c.RunRoot == "/file/run" &&
				c.Driver == ""
		}},
		{storageconf.Overrides{RunRoot: "/r/../s"}, func(c storageconf.Settings) bool {
			return c.RunRoot == "/s" &&
				c.GraphRoot == "/file/graph"
		}},
		{storageconf.Overrides{Driver: "overlay"}, func(c storageconf.Settings) bool {
			return c.Driver == "overlay" && c.GraphRoot == "/file/graph" && c.ImageStore == ""
		}},
		{storageconf.Overrides{Options: []string{"overlay.mountopt=nodev,metacopy=on", ".size=1k",
			"vfs.sync=filesystem"}},
			func(c storageconf.Settings) bool {
				return strings.Join(c.Overlay.MountOptions, "|") == "nodev|metacopy=on" && c.Overlay.Size == 1024 &&
					c.VFS.Sync == "filesystem"
			}},
		{storageconf.Overrides{Driver: "vfs", Options: []string{"overlay.nonsense=1", "imagestore=/tmp",
			"ignore_chown_errors=true"}}, func(c storageconf.Settings) bool {
			return strings.Join(c.AdditionalImageStores, "") == "/tmp" && c.VFS.IgnoreChownErrors &&
				!c.Overlay.IgnoreChownErrors
		}},
		{storageconf.Overrides{Driver: "overlay", Options: []string{"vfs.nonsense=1", "additionalimagestore=/tmp,/",
			"additionallayerstore=/tmp:ref"}}, func(c storageconf.Settings) bool {
			return strings.Join(c.AdditionalImageStores, "|") == "/tmp|/" &&
				c.AdditionalLayerStores[0] == config.LayerStore{Path: "/tmp", WithReference: true}
		}},
		{storageconf.Overrides{GraphRoot: "/g", RunRoot: "/r", ImageStore: "/i", TransientStore: &yes},
			func(c storageconf.Settings) bool {
				return c.ImageStore == "/i" && c.TransientStore
			}},
	} {
		c, warnings, err := h.load(tt.over)
		if err != nil || warnings != nil || !tt.check(c) {
			t.Errorf("%+v gives %+v, %v, %v", tt.over, c, warnings, err)
		}
	}
	file := filepath.Join(h.root, "etc/containers/storage.conf")
	if c := h.mustLoad(storageconf.Overrides{File: file, Driver: "overlay", RunRoot: "/r",
		Options: []string{"size=1k"}}); c.Driver != "overlay" ||
		c.RunRoot != "/r" || c.GraphRoot != "/file/graph" || c.ImageStore != "/file/images" || c.Overlay.Size != 1024 {
		t.Errorf("a file that the command line names stays in force: %+v", c)
	}
	h.env["STORAGE_OPTS"] = ""
	if c := h.mustLoad(storageconf.Overrides{ImageStore: "/i", TransientStore: &no}); c.ImageStore != "/i" ||
		c.GraphRoot != "/file/graph" || c.AutoUserns.MinSize != 5 {
		t.Errorf("these two flags leave the files in force: %+v", c)
	}
	for _, over := range []storageconf.Overrides{
		{Driver: "aufs"},
		{Driver: "vfs", Options: []string{"mountopt=nodev"}},
		{Driver: "vfs", Options: []string{"size=1G"}},
		{Driver: "overlay", Options: []string{"colour=grey"}},
		{Driver: "overlay", Options: []string{"min_space=1"}},
		{Options: []string{"size"}},
		{GraphRoot: "/g", RunRoot: "/r", ImageStore: "/g"},
	} {
		if c, _, err := h.load(over); !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "flag --") {
			t.Errorf("%+v gives %+v, %v", over, c, err)
		}
	}
}

// Files that aren't files, or are far too long.
func TestFilesThatAreNoFiles(t *testing.T) {
	h := newHost(t)
	fifo := filepath.Join(h.root, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, h.root, "/dev/zero", h.write("long", strings.Repeat("#", 300<<10)),
		h.write("deep", "a="+strings.Repeat("[", 250<<10))} {
		if _, _, err := h.load(storageconf.Overrides{File: path}); !errors.Is(err, errdefs.ErrInvalid) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestByteOrderMark(t *testing.T) {
	h := newHost(t)
	if c := h.mustLoad(storageconf.Overrides{File: h.write("storage.conf",
		"\ufeff[storage]\r\ndriver = \"vfs\"\r\n")}); c.Driver != "vfs" {
		t.Errorf("driver %q", c.Driver)
	}
}

// The run root of an ordinary user must not be somebody else's directory.
func TestRuntimeDirectory(t *testing.T) {
	h := newHost(t)
	h.uid = 1<<31 + 4711 // nobody's /run/user
	h.env["TMPDIR"] = h.root
	dir := filepath.Join(h.root, "storage-run-2147488359")
	if c := h.mustLoad(storageconf.Overrides{}); c.RunRoot != dir+"/containers" {
		t.Errorf("run root %s, want one in %s", c.RunRoot, dir)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if c, _, err := h.load(storageconf.Overrides{}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a directory that all can write to: %s, %v", c.RunRoot, err)
	}
	if err := os.Rename(dir, dir+"-moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"-moved", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+"-moved", dir); err != nil {
		t.Fatal(err)
	}
	if c, _, err := h.load(storageconf.Overrides{}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a symbolic link: %s, %v", c.RunRoot, err)
	}
}
