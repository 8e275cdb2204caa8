package overlay_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay"
	"github.com/shalestore/shale/drivers/overlay/examine"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// peer runs the peer's CLI on a root of its own and returns what it prints.
func peer(t *testing.T, root string, args ...string) string {
	t.Helper()
	cmd := exec.Command(testutil.Peer(t), append([]string{"--graph", root + "/root", "--run", root + "/run",
		"--storage-driver", "overlay"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("containers-storage %q: %v\n%s", args, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func place(root string) drivers.Place {
	return drivers.Place{Root: root + "/root", RunRoot: root + "/run"}
}

// layersOf describes a driver's directory with short names replaced by the IDs they stand
// for.
func layersOf(t *testing.T, home string) map[string]string {
	t.Helper()
	links, err := os.ReadDir(filepath.Join(home, "l"))
	must(t, err)
	var names []string
	for _, link := range links {
		target, err := os.Readlink(filepath.Join(home, "l", link.Name()))
		must(t, err)
		names = append(names, link.Name(), strings.Split(target, "/")[1])
	}
	named := strings.NewReplacer(names...)
	tree := map[string]string{}
	for path, line := range testutil.Without(testutil.Snapshot(t, home), "mtime") {
		if strings.HasPrefix(path, ".") || strings.HasPrefix(path, "tempdirs") {
			continue
		}
		if base := filepath.Base(path); base == "link" || base == "lower" || base == "lower-layers" {
			data, err := os.ReadFile(filepath.Join(home, path))
			must(t, err)
			line = regexp.MustCompile(`sha256=\w+`).ReplaceAllString(line, "content="+named.Replace(string(data)))
		}
		tree[named.Replace(path)] = line
	}
	return tree
}

// A layer of ours is a layer of the peer's, down to modes and owners.
func TestLayoutIsThePeers(t *testing.T) {
	testutil.Root(t)
	theirs, ours := t.TempDir(), t.TempDir()
	t.Cleanup(func() { must(t, testutil.UnmountBelow(theirs)) })
	d := open(t, place(ours))
	parent := ""
	for _, id := range []string{"Base1", "middle", "top"} {
		args := []string{"create-layer", "-i", id}
		if parent != "" {
			args = append(args, parent)
		}
		peer(t, theirs, args...)
		s, err := d.Stage(t.Context(), parent, drivers.StageOptions{Writable: true})
		must(t, err)
		must(t, s.Commit(t.Context(), id))
		must(t, s.Discard())
		parent = id
	}
	testutil.SameTree(t, layersOf(t, theirs+"/root/overlay"), layersOf(t, ours+"/root/overlay"))
}

// The peer's layers are ours: listed, mounted, stacked on, deleted.
func TestThePeersLayers(t *testing.T) {
	testutil.Root(t)
	root := t.TempDir()
	t.Cleanup(func() { must(t, testutil.UnmountBelow(root)) })
	peer(t, root, "create-layer", "-i", "base")
	peer(t, root, "create-layer", "-i", "top", "base")
	at := peer(t, root, "mount", "top")
	testutil.Tree(t, at, "theirs=1")
	peer(t, root, "unmount", "top")

	d := open(t, place(root)).(*overlay.Driver)
	info, err := d.Stat(t.Context(), "top")
	must(t, err)
	home := root + "/root/overlay/"
	for key, want := range map[string]string{"LowerDir": home + "base/diff", "UpperDir": home + "top/diff",
		"WorkDir": home + "top/work", "MergedDir": home + "top/merged"} {
		if info.Metadata[key] != want {
			t.Errorf("%s is %q, want %q", key, info.Metadata[key], want)
		}
	}
	must(t, create(t.Context(), d, "ours", "top"))
	must(t, d.PrepareHome(t.Context()))
	target := perform(t, d, "ours", drivers.MountOptions{})
	for _, name := range []string{"theirs", "new"} {
		if _, err := os.Stat(filepath.Join(target, name)); err != nil {
			t.Error(err)
		}
	}
	must(t, mount.Unmount(target))
	if left, err := examine.Of(d).Leftovers(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("leftovers %v in a sound store (%v)", left, err)
	}
	trash, err := d.Delete(t.Context(), "ours")
	must(t, err)
	must(t, trash.Empty(t.Context()))
	peer(t, root, "delete-layer", "top")
	peer(t, root, "delete-layer", "base")
	if links, err := os.ReadDir(home + "l"); err != nil || len(links) > 0 {
		t.Errorf("short names left: %v (%v)", links, err)
	}
}

// perform mounts a layer and returns where.
func perform(t *testing.T, d *overlay.Driver, id string, opts drivers.MountOptions) string {
	t.Helper()
	specs, err := d.Mounts(t.Context(), id, opts)
	must(t, err)
	must(t, mount.Perform(t.Context(), specs[0]))
	t.Cleanup(func() { must(t, mount.Unmount(specs[0].Target)) })
	return specs[0].Target
}

// Layers of releases before 1.63 have no lower-layers, and a power cut may have cost them
// their symlinks.
func TestLayersThatHaveOnlyLower(t *testing.T) {
	testutil.Root(t)
	root, d := freshStore(t)
	must(t, create(t.Context(), d, "top", "child"))
	want, err := d.Stat(t.Context(), "top")
	must(t, err)
	for _, id := range []string{"child", "top"} {
		must(t, os.Remove(filepath.Join(root, "overlay", id, "lower-layers")))
	}
	got, err := d.Stat(t.Context(), "top")
	must(t, err)
	if !slices.Equal(got.Lower, want.Lower) {
		t.Errorf("lowers by link %v, by ID %v", got.Lower, want.Lower)
	}

	link, err := os.ReadFile(filepath.Join(root, "overlay/base/link"))
	must(t, err)
	must(t, os.Remove(filepath.Join(root, "overlay/l", string(link))))
	got, err = d.Stat(t.Context(), "top")
	must(t, err)
	if !slices.Equal(got.Lower, want.Lower) {
		t.Errorf("lowers with a symlink missing %v, by ID %v", got.Lower, want.Lower)
	}

	must(t, create(t.Context(), d, "new", "top"))
	for file, want := range map[string]string{"lower-layers": "top:child:base"} {
		if data, err := os.ReadFile(filepath.Join(root, "overlay/new", file)); err != nil || string(data) != want {
			t.Errorf("%s of a child: %q (%v), want %q", file, data, err, want)
		}
	}
}

// A parent with lower-layers alone is what a later release might leave; its children get
// both files.
func TestParentThatHasOnlyLowerLayers(t *testing.T) {
	testutil.Root(t)
	root, d := freshStore(t)
	want, err := os.ReadFile(filepath.Join(root, "overlay/child/lower"))
	must(t, err)
	must(t, os.Remove(filepath.Join(root, "overlay/child/lower")))
	must(t, create(t.Context(), d, "top", "child"))
	link, err := os.ReadFile(filepath.Join(root, "overlay/child/link"))
	must(t, err)
	got, err := os.ReadFile(filepath.Join(root, "overlay/top/lower"))
	must(t, err)
	if string(got) != "l/"+string(link)+":"+string(want) {
		t.Errorf("lower is %q", got)
	}
}

// What containers/storage turned into older generations when it changed owners lies
// beneath diff.
func TestOlderGenerations(t *testing.T) {
	testutil.Root(t)
	root, d := freshStore(t)
	testutil.Tree(t, root, "overlay/child/diff1/who=1", "overlay/child/diff1/one=1", "overlay/child/diff2/who=2",
		"overlay/child/diff2/two=1")
	must(t, create(t.Context(), d, "top", "child"))
	dir := func(s string) string { return filepath.Join(root, "overlay", s) }
	info, err := d.Stat(t.Context(), "child")
	must(t, err)
	if want := []string{dir("child/diff1"), dir("child/diff2"), dir("base/diff")}; !slices.Equal(info.Lower, want) {
		t.Errorf("lowers of the layer itself %v", info.Lower)
	}
	if info.Metadata["LowerDir"] != dir("base/diff") {
		t.Errorf("LowerDir is %q", info.Metadata["LowerDir"])
	}
	info, err = d.Stat(t.Context(), "top")
	must(t, err)
	if want := []string{dir("child/diff"), dir("child/diff1"), dir("child/diff2"),
		dir("base/diff")}; !slices.Equal(info.Lower, want) {
		t.Errorf("lowers of its child %v", info.Lower)
	}
	for _, id := range []string{"child", "top"} {
		target := perform(t, d, id, drivers.MountOptions{})
		if data, err := os.ReadFile(filepath.Join(target, "who")); err != nil || string(data) != "1" {
			t.Errorf("%s: the newer generation must win: %q, %v", id, data, err)
		}
		for _, name := range []string{"one", "two", "old"} {
			if _, err := os.Stat(filepath.Join(target, name)); err != nil {
				t.Error(err)
			}
		}
	}

	s, err := d.Stage(t.Context(), "base", drivers.StageOptions{Content: "child"})
	must(t, err)
	must(t, s.Commit(t.Context(), "copy"))
	must(t, s.Discard())
	info, err = d.Stat(t.Context(), "copy")
	must(t, err)
	if want := []string{dir("copy/diff1"), dir("copy/diff2"), dir("base/diff")}; !slices.Equal(info.Lower, want) {
		t.Errorf("lowers of a copy %v", info.Lower)
	}
}

// An additional layer store's layer has a symlink for its diff.
func TestDiffMayBeASymlink(t *testing.T) {
	testutil.Root(t)
	root, d := freshStore(t)
	elsewhere := t.TempDir()
	shown := filepath.Join(elsewhere, "layer")
	testutil.Tree(t, shown, "diff/far=1", "diff/ 0711")
	must(t, os.RemoveAll(filepath.Join(root, "overlay/child/diff")))
	must(t, os.Symlink(filepath.Join(shown, "diff"), filepath.Join(root, "overlay/child/diff")))
	refused := func(why string) {
		t.Helper()
		for what, err := range map[string]error{
			"stat":  second(d.Stat(t.Context(), "child")),
			"usage": second(d.Usage(t.Context(), "child")),
			"mount": second(d.Mounts(t.Context(), "child", drivers.MountOptions{})),
			"stage": create(t.Context(), d, "top", "child"),
		} {
			if !errors.Is(err, errdefs.ErrCorrupt) || !strings.Contains(err.Error(), "overlay/child/diff") {
				t.Errorf("%s, %s: %v", what, why, err)
			}
		}
	}
	refused("a symlink and no more")
	must(t, os.WriteFile(filepath.Join(root, "overlay/child/additionallayer"), []byte(shown), 0o600))
	refused("a layer of a store that nobody has configured")
	d, err := overlay.Open(t.Context(), overlay.Options{Place: drivers.Place{Root: root},
		AdditionalLayerStores: []overlay.LayerStore{{Path: elsewhere}}})
	must(t, err)
	must(t, create(t.Context(), d, "top", "child"))
	target := perform(t, d, "top", drivers.MountOptions{})
	if _, err := os.Stat(filepath.Join(target, "far")); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(target); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("the root's mode comes from behind the symlink: %v (%v)", st.Mode(), err)
	}
	if u, err := d.Usage(t.Context(), "child"); err != nil || u.Bytes != 1 {
		t.Errorf("usage %+v (%v)", u, err)
	}
	trash, err := d.Delete(t.Context(), "child")
	must(t, err)
	must(t, trash.Empty(t.Context()))
	if _, err := os.Stat(filepath.Join(shown, "diff/far")); err != nil {
		t.Error("deleting the layer deleted what its symlink led to")
	}
}

// Damage has a name, and never becomes a path.
func TestDamagedFiles(t *testing.T) {
	testutil.Root(t)
	for name, c := range map[string]struct {
		damage func(layer string) error
		names  string
	}{
		"lower-layers empty":      {write("lower-layers", ""), "lower-layers"},
		"lower-layers climbs out": {write("lower-layers", "../../etc"), "lower-layers"},
		"lower-layers has a hole": {write("lower-layers", "base::base"), "lower-layers"},
		"lower-layers names l":    {write("lower-layers", "l"), "lower-layers"},
		"lower-layers is long":    {write("lower-layers", strings.Repeat("a:", 1<<20)), "lower-layers"},
		"lower-layers is a FIFO": {replaceBy("lower-layers", func(p string) error { return unix.Mkfifo(p, 0o600) }),
			"lower-layers"},
		"lower-layers a symlink": {replaceBy("lower-layers",
			func(p string) error { return os.Symlink("/etc/passwd", p) }), "lower-layers"},
		"parent gone":        {write("lower-layers", "nobody"), "nobody"},
		"lower empty":        {onlyLower(""), "lower"},
		"lower climbs out":   {onlyLower("l/../../../etc"), "lower"},
		"lower names nobody": {onlyLower("l/ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
		"link leads outside": {func(layer string) error {
			if err := os.Symlink("../../../etc/diff",
				filepath.Join(layer, "../l/ABCDEFGHIJKLMNOPQRSTUVWXYZ")); err != nil {
				return err
			}
			return onlyLower("l/ABCDEFGHIJKLMNOPQRSTUVWXYZ")(layer)
		}, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
	} {
		t.Run(name, func(t *testing.T) {
			root, d := freshStore(t)
			must(t, c.damage(filepath.Join(root, "overlay/child")))
			_, err := d.Mounts(t.Context(), "child", drivers.MountOptions{})
			for what, err := range map[string]error{"stat": second(d.Stat(t.Context(), "child")), "mounts": err} {
				if !errors.Is(err, errdefs.ErrCorrupt) || !strings.Contains(err.Error(), c.names) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if name != "parent gone" && create(t.Context(), d, "top", "child") == nil {
				t.Error("a child of a damaged layer was made")
			}
			trash, err := d.Delete(t.Context(), "child") // which is how one gets rid of it
			must(t, err)
			must(t, trash.Empty(t.Context()))
		})
	}
}

func second[T any](_ T, err error) error { return err }

func write(name, content string) func(string) error {
	return func(layer string) error { return os.WriteFile(filepath.Join(layer, name), []byte(content), 0o644) }
}

func onlyLower(content string) func(string) error {
	return func(layer string) error {
		return errors.Join(os.Remove(filepath.Join(layer, "lower-layers")), write("lower", content)(layer))
	}
}

func replaceBy(name string, by func(path string) error) func(string) error {
	return func(layer string) error {
		path := filepath.Join(layer, name)
		return errors.Join(os.Remove(path), by(path))
	}
}

// A damaged or foreign link file must not make a deletion take another layer's short name
// along.
func TestDeleteTakesOnlyItsOwnShortName(t *testing.T) {
	testutil.Root(t)
	root, d := freshStore(t)
	base, err := os.ReadFile(filepath.Join(root, "overlay/base/link"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "overlay/child/link"), base, 0o644))
	trash, err := d.Delete(t.Context(), "child")
	must(t, err)
	must(t, trash.Empty(t.Context()))
	if _, err := os.Readlink(filepath.Join(root, "overlay/l", string(base))); err != nil {
		t.Error(err)
	}
	left, err := examine.Of(d).Leftovers(t.Context())
	must(t, err)
	if len(left) != 1 {
		t.Errorf("the deleted layer's own short name was to be left: %v", left)
	}
}

// What isn't a layer is no layer, whatever else the home holds.
func TestListKnowsALayer(t *testing.T) {
	testutil.Root(t)
	root, d := freshStore(t)
	testutil.Tree(t, root, "overlay/staging/1/dir/", "overlay/tempdirs/lock-1=", "overlay/.has-mount-program=false",
		"overlay/.tmpdir/", "overlay/file=1")
	must(t, os.Symlink("base", filepath.Join(root, "overlay/symlink")))
	ids, err := d.List(t.Context())
	must(t, err)
	slices.Sort(ids)
	if !slices.Equal(ids, []string{"base", "child"}) {
		t.Errorf("layers %v", ids)
	}
	for _, id := range []string{"l", "staging", "tempdirs"} {
		if _, err := d.Delete(t.Context(), id); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("delete %s: %v", id, err)
		}
	}
	if _, err := d.Stat(t.Context(), "symlink"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a symlink is no layer: %v", err)
	}
}
