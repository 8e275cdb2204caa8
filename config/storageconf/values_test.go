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
)

// Every key reaches its field.
func TestEveryKey(t *testing.T) {
	h := newHost(t)
	for _, dir := range []string{"images1", "images2", "layers1", "layers2"} {
		if err := os.Mkdir(filepath.Join(h.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := h.write("bin/fuse-overlayfs", "")
	h.write("etc/containers/storage.conf", strings.ReplaceAll(`
[storage]
driver = "overlay"
driver_priority = ["overlay2", "btrfs", "vfs"]
runroot = "/run/$UID"
graphroot = "$SOMEWHERE/graph/../store"
imagestore = "/srv/images/"
transient_store = true

[storage.options]
additionalimagestores = ["@/images1", "@/images2/"]
additionallayerstores = ["@/layers1:ref", "@/layers2"]
root-auto-userns-user = "pool"
auto-userns-min-size = 2048
auto-userns-max-size = 1_000_000
disable-volatile = true
pull_options = {enable_partial_images="true", use_hard_links="false", convert_images="True", ostree_repos="/a:/b"}

[storage.options.pull_options]
insecure_allow_unpredictable_image_contents = "true"

[storage.options.overlay]
ignore_chown_errors = "true"
mountopt = "nodev, metacopy=on,context=\"system_u:object_r:x:s0:c1,c2\""
mount_program = "@/bin/fuse-overlayfs"
size = "10G"
inodes = "1000000"
skip_mount_home = "1"
use_composefs = "false"
force_mask = "0750"
sync = "Filesystem"

[storage.options.vfs]
ignore_chown_errors = "true"
sync = "none"

[storage.options.btrfs]
min_space = "1G"
size = "1G"

[storage.options.zfs]
fsname = "tank/containers"
mountopt = "nodev"
size = "1G"
`, "@", h.root))
	// A table can't be extended once it was given inline, so this is two files.
	conf := filepath.Join(h.root, "etc/containers/storage.conf")
	data, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	const second = "[storage.options.pull_options]\ninsecure_allow_unpredictable_image_contents = \"true\"\n"
	h.write("etc/containers/storage.conf", strings.Replace(string(data), second, "", 1))
	h.write("etc/containers/storage.conf.d/1.conf", second)
	h.env["SOMEWHERE"] = "/srv"
	c := h.mustLoad(storageconf.Overrides{})
	mask := fs.FileMode(0o750)
	want := config.Config{
		GraphRoot: "/srv/store", RunRoot: "/run/0", ImageStore: "/srv/images",
		Driver: "overlay", DriverPriority: []string{"overlay", "btrfs", "vfs"}, TransientStore: true,
		AdditionalImageStores: []string{h.root + "/images1", h.root + "/images2"},
		AdditionalLayerStores: []config.LayerStore{{Path: h.root + "/layers1", WithReference: true},
			{Path: h.root + "/layers2"}},
		Overlay: config.Overlay{
			MountOptions:      []string{"nodev", "metacopy=on", `context="system_u:object_r:x:s0:c1,c2"`},
			MountProgram:      program,
			IgnoreChownErrors: true, SkipMountHome: true, ForceMask: &mask, Size: 10 << 30, Inodes: 1000000,
			Sync: "filesystem",
		},
		VFS:             config.VFS{IgnoreChownErrors: true, Sync: "none"},
		DisableVolatile: true,
		AutoUserns:      config.AutoUserns{User: "pool", MinSize: 2048, MaxSize: 1000000},
		PullOptions: config.PullOptions{EnablePartialImages: true, ConvertImages: true,
			OSTreeRepos:                             []string{"/a", "/b"},
			InsecureAllowUnpredictableImageContents: true},
	}
	got := reflect.ValueOf(c.Config)
	for i := range got.NumField() {
		if f := got.Type().Field(i); f.IsExported() && !reflect.DeepEqual(got.Field(i).Interface(),
			reflect.ValueOf(want).Field(i).Interface()) {
			t.Errorf("%s is %+v, want %+v", f.Name, got.Field(i), reflect.ValueOf(want).Field(i))
		}
	}
	for _, s := range c.List() {
		if s.Origin == (storageconf.Origin{}) {
			t.Errorf("%s = %q has no origin", s.Key, s.Value)
		}
	}
}

// A mistake is an error that names the file and the line.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		line string // the third of the file, in [storage.options.overlay] unless it starts a table
		want string // a part of the message
	}{
		{`size = "10X"`, "not a size"},
		{`size = "-1"`, "not a size"},
		{`size = "8589934592G"`, "not a size"},
		{`size = 10`, "must be a string in quotes, not a number"},
		{`inodes = "many"`, "not a whole number"},
		{`inodes = "-1"`, "not a whole number"},
		{`ignore_chown_errors = true`, "must be a string in quotes, not a boolean"},
		{`ignore_chown_errors = "yes"`, `neither "true" nor "false"`},
		{`skip_mount_home = "maybe"`, `neither "true" nor "false"`},
		{`force_mask = "0o755"`, "octal"},
		{`force_mask = "-755"`, "octal"},
		{`force_mask = "1777"`, "octal"},
		{`sync = "always"`, `neither "none" nor "filesystem"`},
		{`mount_program = "/nonexistent/program"`, "no such file"},
		{"mountopt = \"a\\u0000b\"", "NUL"},
		{`mountopt = ["nodev"]`, "not an array"},
		{`mountopt = "nodev,bind"`, `"bind"`},
		{`mountopt = "nodev,upperdir=/srv"`, `"upperdir=/srv"`},
		{`mountopt = 'nodev,comment="a,b"'`, "quotes are for security labels"},
		{`mountopt = 1979-05-27`, "not a date or time"},
		{`mountopt = 1.5`, "not a fraction"},
		{`mountopt = {}`, "not a table"},
		{`size = "1G" size = "2G"`, ""},
		{"size = \"1G\"\nsize = \"2G\"", ""},
		{`SIZE = "1G"
size = "2G"`, "set already on line 3"},
		{`size = `, ""},
		{`[storage] # driver = "overlay" follows
driver = "thinpool"`, `unknown driver "thinpool"`},
		{`[storage]
driver = "btrfs"`, errdefs.ErrUnsupported.Error()},
		{`[storage]
driver_priority = ["vfs", "aufs"]`, `unknown driver "aufs"`},
		{`[storage]
driver_priority = ["vfs", 1]`, "not a number in it"},
		{`[storage]
driver_priority = ["vfs", {append="true"}]`, "append=true"},
		{`[storage]
driver_priority = ["vfs", {prepend=true}]`, "append=true"},
		{`[storage]
graphroot = "relative"`, "not an absolute path"},
		{`[storage]
runroot = "$NOTHING"`, "not an absolute path"},
		{`[storage]
imagestore = "relative"`, "not an absolute path"},
		{`[storage]
imagestore = "/var/lib/containers/storage"`, "is the graph root as well"},
		{`[storage]
transient_store = "true"`, "must be true or false without quotes"},
		{`[storage]
options = "x"`, "must be a table, not a string"},
		{`[[storage]]
driver = "vfs"`, "not an array of tables"},
		{`[storage.driver]
name = "vfs"`, "not a table"},
		{`[storage.options]
auto-userns-min-size = -1`, "not a whole number from 0 to 4294967295"},
		{`[storage.options]
auto-userns-min-size = 4294967296`, "not a whole number"},
		{`[storage.options]
auto-userns-max-size = 9223372036854775808`, ""},
		{`[storage.options]
auto-userns-min-size = 70000`, "more than auto-userns-max-size"},
		{`[storage.options]
force_mask = "0755"`, "must be a whole number"},
		{`[storage.options]
force_mask = 0o1777`, "octal"},
		{`[storage.options]
additionalimagestores = ["relative"]`, "not an absolute path"},
		{`[storage.options]
additionalimagestores = ["/nonexistent/store"]`, "no such file"},
		{`[storage.options]
additionallayerstores = ["/:reference"]`, `only "ref"`},
		{`[storage.options]
additionallayerstores = ["/:ref:ref"]`, `only "ref"`},
		{`[storage.options.pull_options]
convert_images = "yes"`, `neither "true" nor "false"`},
		{`[storage.options.pull_options]
convert_images = true`, "must be a string in quotes"},
		{`[storage.options.vfs]
sync = "always"`, `neither "none" nor "filesystem"`},
	} {
		h := newHost(t)
		head, line := "# a file\n[storage.options.overlay]\n", ":3: "
		if strings.HasPrefix(tt.line, "[") {
			head, line = "# a file\n\n", ":4: "
		}
		if strings.HasPrefix(tt.line, "[storage.driver]") || strings.HasPrefix(tt.line, "[[") {
			line = ":3: "
		} else if n := strings.Count(tt.line, "\n"); n > 0 && !strings.HasPrefix(tt.line, "[") {
			line = ":4: "
		}
		path := h.write("etc/containers/storage.conf", head+tt.line+"\n")
		c, _, err := h.load(storageconf.Overrides{})
		if !errors.Is(err, errdefs.ErrInvalid) && !errors.Is(err, errdefs.ErrUnsupported) ||
			!strings.Contains(err.Error(), path+line) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s\ngives %v and %+v, want %q at %s%s", tt.line, err, c.Overlay, tt.want, path, line)
		}
	}
}

// What nobody knows is a warning with its line, and an error for those who asked to be
// strict.
func TestUnknownKeys(t *testing.T) {
	h := newHost(t)
	path := h.write("etc/containers/storage.conf", `[storage]
driver = "vfs"
colour = "grey"
rootless_storage_path = "/old"

[storage.options]
remap-uids = "0:1:2"
use_composefs = "true"
"overlay.size" = "1G"

[storage.options.thinpol]
basesize = "10G"
blocksize = "64k"

[[elsewhere]]
key = 1

[storage.options.overlay]
colour = {light = "grey", dark = "black"}
[storage.options.pull_options]
colour = "red"
`)
	_, warnings, err := h.load(storageconf.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, strings.TrimPrefix(w.String(), path))
	}
	for i, want := range []string{
		":3: unknown key storage.colour",
		":7: unknown key storage.options.remap-uids",
		":8: storage.options.use_composefs has no effect",
		":9: unknown key storage.options.overlay.size", // quoted: one part with a dot
		":11: unknown table [storage.options.thinpol]",
		":15: unknown table [elsewhere]",
		":19: unknown key storage.options.overlay.colour",
		":21: unknown key storage.options.pull_options.colour",
		":4: storage.rootless_storage_path is deprecated",
	} {
		if i >= len(got) || !strings.HasPrefix(got[i], want) {
			t.Fatalf("warnings:\n%s\nwant %q as number %d", strings.Join(got, "\n"), want, i)
		}
	}
	_, _, err = h.load(storageconf.Overrides{Strict: true})
	if !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), path+":3: unknown key storage.colour") {
		t.Errorf("strict: %v", err)
	}
}

// {append=true} adds to what weaker files said, and goes on doing so until a file takes
// it back.
func TestAppendedLists(t *testing.T) {
	for _, tt := range []struct {
		files []string
		want  []string
	}{
		{[]string{`["vfs"]`, `["overlay"]`}, []string{"overlay"}},
		{[]string{`["vfs"]`, `["overlay", {append=true}]`}, []string{"vfs", "overlay"}},
		{[]string{`["vfs"]`, `[{append=true}, "overlay"]`, `["zfs"]`}, []string{"vfs", "overlay", "zfs"}},
		{[]string{`["vfs", {append=true}]`, `["overlay"]`}, []string{"vfs", "overlay"}},
		{[]string{`["vfs", {append=true}]`, `["overlay", {append=false}]`, `["zfs"]`}, []string{"zfs"}},
		{[]string{`["vfs"]`, `[]`}, nil},
		{[]string{"[\n  \"vfs\", # why\n  {append = true},\n]"}, []string{"vfs"}},
	} {
		h := newHost(t)
		for i, f := range tt.files {
			h.write("etc/containers/storage.conf.d/"+string(rune('a'+i))+".conf", "[storage]\ndriver_priority = "+f+
				"\n")
		}
		if c := h.mustLoad(storageconf.Overrides{}); !reflect.DeepEqual(c.DriverPriority, tt.want) {
			t.Errorf("%q give %q, want %q", tt.files, c.DriverPriority, tt.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]uint64{
		"0": 0, "1": 1, "1b": 1, "1 b": 1, "1k": 1024, "1K": 1024, "1kb": 1024, "1KiB": 1024, "10G": 10 << 30,
		"1.5g": 3 << 29, "2 T": 2 << 40,
		"1p": 1 << 50, "9007199254740993": 9007199254740993, "9223372036854775807": 1<<63 - 1, "0.5": 0,
	} {
		if got, err := storageconf.ParseSize(in); got != want || err != nil {
			t.Errorf("%q is %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", " ", "G", "-1", "+1", "1x", "1kk", "1bb", "1kbi", "1  k", "1e3", "0x10", "nan",
		"inf", "1.2.3", ".", "9223372036854775808",
		"8192p", "8388608T", "9007199254740993G", "99999999999999999999"} {
		if got, err := storageconf.ParseSize(in); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q is %d, %v", in, got, err)
		}
	}
}

// What is for drivers that Shale doesn't have is nothing to warn of: it stands in files
// of distributions.
func TestForeignDriversAreNoWarning(t *testing.T) {
	h := newHost(t)
	h.write("etc/containers/storage.conf", `[storage]
driver = "vfs"
[storage.options]
devicemapper = {directlvm_device = "/dev/sdb"}
[storage.options.thinpool]
basesize = "10G"
[storage.options.aufs]
mountopt = "nodev"
[storage.options.zfs]
novelty = "1"
`)
	h.mustLoad(storageconf.Overrides{Strict: true})
}

// The image store's path may hold variables, as those of the other roots.
func TestImageStoreIsExpanded(t *testing.T) {
	h := newHost(t)
	h.write("etc/containers/storage.conf", "[storage]\nimagestore = \"$HOME/x\"\n")
	if c := h.mustLoad(storageconf.Overrides{}); c.ImageStore != filepath.Join(h.root, "home/ann/x") {
		t.Errorf("image store %s", c.ImageStore)
	}
	h.write("etc/containers/storage.conf", "[storage]\nimagestore = \"$NOBODY/../x\"\n")
	if c := h.mustLoad(storageconf.Overrides{}); c.ImageStore != "/x" {
		t.Errorf("image store %s", c.ImageStore)
	}
}

// The roots that a file of the system names are root's. An ordinary user, who can't write
// there, has the default; a file of the user's own counts whatever it says, and
// CheckRoots tells what is wrong with it.
func TestRootsOfTheSystemAreNoUsers(t *testing.T) {
	h := newHost(t)
	h.uid = 4711
	h.env["XDG_RUNTIME_DIR"] = h.root
	h.canWrite = func(dir string) bool {
		return !strings.HasPrefix(dir, "/var/lib/containers") && !strings.HasPrefix(dir, "/var/run/storage")
	}
	const text = "[storage]\ngraphroot = \"/var/lib/containers/storage\"\nrunroot = \"/var/run/storage\"\n"
	for _, file := range []string{"usr/share/containers/storage.conf", "etc/containers/storage.conf",
		"etc/containers/storage.conf.d/graph.conf"} {
		h.write(file, text)
		s, warnings, err := h.load(storageconf.Overrides{})
		if err != nil || len(warnings) != 2 || !strings.Contains(warnings[0].String(),
			file+":2: storage.graphroot has no") {
			t.Errorf("%s: warnings %v (%v)", file, warnings, err)
		}
		if s.GraphRoot != filepath.Join(h.root, "home/ann/.local/share/containers/storage") ||
			s.RunRoot != filepath.Join(h.root, "containers") || h.origin(s, "storage.graphroot") != "default" {
			t.Errorf("%s: roots %s and %s", file, s.GraphRoot, s.RunRoot)
		}
		if err := s.CheckRoots(); err != nil {
			t.Error(err)
		}
		must(t, os.Remove(filepath.Join(h.root, file)))
	}
	h.write("etc/containers/storage.conf", strings.ReplaceAll(text, "/var/", "/srv/$UID/"))
	if s := h.mustLoad(storageconf.Overrides{}); s.GraphRoot != "/srv/4711/lib/containers/storage" {
		t.Errorf("a graph root that the user can write to: %s", s.GraphRoot)
	}
	own := h.write("home/ann/.config/containers/storage.conf", text)
	s := h.mustLoad(storageconf.Overrides{})
	if err := s.CheckRoots(); !errors.Is(err, errdefs.ErrInvalid) ||
		!strings.Contains(err.Error(), own+":2: storage.graphroot") {
		t.Errorf("the user's own file, graph root %s: %v", s.GraphRoot, err)
	}
	h.uid = 0
	if s := h.mustLoad(storageconf.Overrides{File: own}); s.GraphRoot != "/var/lib/containers/storage" ||
		s.CheckRoots() != nil {
		t.Errorf("root: %s, %v", s.GraphRoot, s.CheckRoots())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
