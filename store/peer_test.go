package store_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// hand is somebody who works on a store: Shale, or the containers-storage CLI. The methods fail the test when the operation does.
type hand interface {
	createLayer(id, parent string, readOnly bool, names ...string)
	importLayer(id, parent, tar string, names ...string)
	applyDiff(layer, tar string)
	createImage(id, top, metadata string, names ...string)
	createContainer(id, image, metadata string, volatile bool, names ...string)
	setData(kind, id, key, content string)
	data(kind, id, key string) string
	addNames(ref string, names ...string)
	setNames(ref string, names ...string)
	removeNames(ref string, names ...string)
	setMetadata(ref, metadata string)
	mount(ref string) string
	unmount(ref string)
	changes(layer string) []string
	diff(layer string) []byte
	deleteLayer(ref string)
	deleteImage(ref string)
	deleteContainer(ref string)
	layers() []string
}

// shaleHand is Shale's library.
type shaleHand struct {
	testing.TB
	s *store.Store
}

func (h shaleHand) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h shaleHand) createLayer(id, parent string, readOnly bool, names ...string) {
	h.Helper()
	_, err := h.s.CreateLayer(context.Background(), layers.CreateOptions{ID: id, Parent: parent, Names: names, Writable: !readOnly})
	h.must(err)
}

func (h shaleHand) importLayer(id, parent, tar string, names ...string) {
	h.Helper()
	f, err := os.Open(tar)
	h.must(err)
	defer f.Close()
	_, err = h.s.ImportLayer(context.Background(), layers.CreateOptions{ID: id, Parent: parent, Names: names, Writable: true}, f, nil)
	h.must(err)
}

func (h shaleHand) applyDiff(layer, tar string) {
	h.Helper()
	f, err := os.Open(tar)
	h.must(err)
	defer f.Close()
	_, err = h.s.ApplyDiff(context.Background(), layer, f, nil)
	h.must(err)
}

func (h shaleHand) createImage(id, top, metadata string, names ...string) {
	h.Helper()
	_, err := h.s.CreateImage(context.Background(), store.ImageOptions{ID: id, TopLayer: top, Metadata: metadata, Names: names})
	h.must(err)
}

func (h shaleHand) createContainer(id, image, metadata string, volatile bool, names ...string) {
	h.Helper()
	_, err := h.s.CreateContainer(context.Background(),
		store.ContainerOptions{ID: id, Image: image, Metadata: metadata, Volatile: volatile, Names: names})
	h.must(err)
}

func (h shaleHand) setData(kind, id, key, content string) {
	h.Helper()
	ctx := context.Background()
	switch kind {
	case "layer":
		h.must(h.s.SetLayerBigData(ctx, id, key, strings.NewReader(content)))
	case "image":
		h.must(h.s.SetImageBigData(ctx, id, key, []byte(content), ""))
	default:
		h.must(h.s.SetContainerBigData(ctx, id, key, []byte(content)))
	}
}

func (h shaleHand) data(kind, id, key string) string {
	h.Helper()
	ctx := context.Background()
	var data []byte
	var err error
	switch kind {
	case "layer":
		var r io.ReadCloser
		r, err = h.s.LayerBigData(ctx, id, key)
		h.must(err)
		defer r.Close()
		data, err = io.ReadAll(r)
	case "image":
		data, err = h.s.ImageBigData(ctx, id, key)
	default:
		data, err = h.s.ContainerBigData(ctx, id, key)
	}
	h.must(err)
	return string(data)
}

func (h shaleHand) addNames(ref string, names ...string) {
	h.Helper()
	h.must(h.s.AddNames(context.Background(), ref, names...))
}

func (h shaleHand) setNames(ref string, names ...string) {
	h.Helper()
	h.must(h.s.SetNames(context.Background(), ref, names...))
}

func (h shaleHand) removeNames(ref string, names ...string) {
	h.Helper()
	h.must(h.s.RemoveNames(context.Background(), ref, names...))
}

func (h shaleHand) setMetadata(ref, metadata string) {
	h.Helper()
	h.must(h.s.SetMetadata(context.Background(), ref, metadata))
}

func (h shaleHand) mount(ref string) string {
	h.Helper()
	path, err := h.s.Mount(context.Background(), ref, store.MountOptions{})
	h.must(err)
	return path
}

func (h shaleHand) unmount(ref string) {
	h.Helper()
	_, err := h.s.Unmount(context.Background(), ref, false)
	h.must(err)
}

func (h shaleHand) changes(layer string) []string {
	h.Helper()
	all, err := h.s.Changes(context.Background(), layer, "")
	h.must(err)
	var lines []string
	for _, c := range all {
		kind := map[archive.ChangeKind]string{archive.Added: "Add", archive.Modified: "Modify", archive.Deleted: "Delete"}[c.Kind]
		lines = append(lines, fmt.Sprintf("%s %q", kind, c.Path))
	}
	return lines
}

func (h shaleHand) diff(layer string) []byte {
	h.Helper()
	plain := archive.Uncompressed
	var out bytes.Buffer
	h.must(h.s.Diff(context.Background(), &out, layer, "", store.DiffOptions{Compression: &plain}))
	return out.Bytes()
}

func (h shaleHand) deleteLayer(ref string) {
	h.Helper()
	h.must(h.s.DeleteLayer(context.Background(), ref))
}

func (h shaleHand) deleteImage(ref string) {
	h.Helper()
	_, err := h.s.DeleteImage(context.Background(), ref, true)
	h.must(err)
}

func (h shaleHand) deleteContainer(ref string) {
	h.Helper()
	h.must(h.s.DeleteContainer(context.Background(), ref))
}

func (h shaleHand) layers() []string {
	h.Helper()
	all, err := h.s.Layers(context.Background())
	h.must(err)
	var ids []string
	for _, l := range all {
		ids = append(ids, l.ID)
	}
	return ids
}

// peerHand is the containers-storage CLI.
type peerHand struct {
	testing.TB
	cli string
	cfg config.Config
}

func (h peerHand) run(args ...string) string {
	h.Helper()
	cmd := exec.Command(h.cli, append([]string{"--graph", h.cfg.GraphRoot, "--run", h.cfg.RunRoot, "--storage-driver", h.cfg.Driver}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		h.Fatalf("containers-storage %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// flags repeats a flag for each value.
func flags(flag string, values []string) (args []string) {
	for _, v := range values {
		args = append(args, flag, v)
	}
	return args
}

func optional(parent string) []string {
	if parent == "" {
		return nil
	}
	return []string{parent}
}

func (h peerHand) createLayer(id, parent string, readOnly bool, names ...string) {
	h.Helper()
	args := slices.Concat([]string{"create-layer", "-i", id}, flags("-n", names))
	if readOnly {
		args = append(args, "-r")
	}
	h.run(append(args, optional(parent)...)...)
}

func (h peerHand) importLayer(id, parent, tar string, names ...string) {
	h.Helper()
	h.run(slices.Concat([]string{"import-layer", "-i", id, "-f", tar}, flags("-n", names), optional(parent))...)
}

func (h peerHand) applyDiff(layer, tar string) {
	h.Helper()
	h.run("apply-diff", "-f", tar, layer)
}

func (h peerHand) createImage(id, top, metadata string, names ...string) {
	h.Helper()
	h.run(slices.Concat([]string{"create-image", "-i", id, "-m", metadata}, flags("-n", names), optional(top))...)
}

func (h peerHand) createContainer(id, image, metadata string, volatile bool, names ...string) {
	h.Helper()
	args := slices.Concat([]string{"create-container", "-i", id, "-m", metadata}, flags("-n", names))
	if volatile {
		args = append(args, "--volatile")
	}
	h.run(append(args, image)...)
}

func (h peerHand) setData(kind, id, key, content string) {
	h.Helper()
	file := filepath.Join(h.TempDir(), "item")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		h.Fatal(err)
	}
	h.run("set-"+kind+"-data", "-f", file, id, key)
}

func (h peerHand) data(kind, id, key string) string {
	h.Helper()
	return h.run("get-"+kind+"-data", id, key)
}

func (h peerHand) addNames(ref string, names ...string) {
	h.Helper()
	h.run(slices.Concat([]string{"add-names"}, flags("-n", names), []string{ref})...)
}

func (h peerHand) setNames(ref string, names ...string) {
	h.Helper()
	h.run(slices.Concat([]string{"set-names"}, flags("-n", names), []string{ref})...)
}

func (h peerHand) removeNames(ref string, names ...string) {
	h.Helper()
	h.run(slices.Concat([]string{"remove-names"}, flags("-n", names), []string{ref})...)
}

func (h peerHand) setMetadata(ref, metadata string) {
	h.Helper()
	h.run("set-metadata", "-m", metadata, ref)
}

func (h peerHand) mount(ref string) string {
	h.Helper()
	return strings.TrimSpace(h.run("mount", ref))
}

func (h peerHand) unmount(ref string) {
	h.Helper()
	h.run("unmount", ref)
}

func (h peerHand) changes(layer string) []string {
	h.Helper()
	return strings.Split(strings.TrimSpace(h.run("changes", layer)), "\n")
}

func (h peerHand) diff(layer string) []byte {
	h.Helper()
	return []byte(h.run("diff", "-u", layer))
}

func (h peerHand) deleteLayer(ref string) {
	h.Helper()
	h.run("delete-layer", ref)
}

func (h peerHand) deleteImage(ref string) {
	h.Helper()
	h.run("delete-image", ref)
}

func (h peerHand) deleteContainer(ref string) {
	h.Helper()
	h.run("delete-container", ref)
}

func (h peerHand) layers() []string {
	h.Helper()
	return strings.Fields(regexp.MustCompile(`(?m)^\tname: .*$`).ReplaceAllString(h.run("layers", "-q"), ""))
}

// The same work done by Shale and by containers-storage leaves the same files: records to the byte, names, modes, owners and contents, apart from
// what chance and the clock decide.
func TestSameFilesAsThePeer(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			ours, theirs := roots(t), roots(t)
			ours.Driver, theirs.Driver = driver, driver
			peer := peerHand{t, testutil.Peer(t), theirs}
			shale := shaleHand{t, open(t, ours)}
			tars := t.TempDir()
			base, child, compressed := filepath.Join(tars, "base"), filepath.Join(tars, "child"), filepath.Join(tars, "gz")
			var gz bytes.Buffer
			z := gzip.NewWriter(&gz)
			z.Write(layerTar(t, "usr/", "usr/a", "b"))
			z.Close()
			for path, data := range map[string][]byte{
				base: layerTar(t, "etc/", "etc/hosts", "bin/", "bin/sh"), child: layerTar(t, "etc/", "etc/.wh.hosts", "new"), compressed: gz.Bytes(),
			} {
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, h := range []hand{peer, shale} {
				h.createLayer(id("aa"), "", true, "base", "old name")
				h.applyDiff("base", base)
				h.importLayer(id("bb"), "base", child, "child")
				h.createLayer(id("cc"), id("bb"), false)
				h.importLayer(id("dd"), "", compressed, "other", "base<&>\"é")
				h.applyDiff(id("dd"), child)
				h.createLayer(id("ee"), "", true)
				h.deleteLayer(id("ee"))
				h.addNames("base", "more")
				h.setNames("other", "moved", "more")
				h.removeNames("child", "child", "nothing")
				h.setMetadata(id("cc"), `{"a":"<b>"}`)
				h.setData("layer", id("cc"), "zstd-chunked-manifest", "item")
				h.setData("layer", id("cc"), "abcX", "")

				h.createImage(id("11"), id("bb"), "meta", "img", "docker.io/library/x:latest")
				h.setData("image", "img", "manifest", `{"schemaVersion":2}`)
				h.setData("image", "img", "sha256:abc", "config")
				h.setData("image", "img", "sha256:abc", "config, again")
				h.addNames("img", "img2")
				h.createImage(id("22"), "", "")
				h.setNames(id("22"), "img2")
				h.createImage(id("33"), id("dd"), "", "gone")
				h.deleteImage("gone")

				h.createContainer(id("55"), "img", `{"image-name":"x"}`, false, "box", "box 2")
				h.setData("container", "box", "state", "running")
				h.createContainer(id("66"), "img2", "", true, "volatile box")
				h.createContainer(id("77"), "img", "", false)
				h.mount("box")
				h.mount("box")
				h.unmount("box")
				h.mount("volatile box")
				h.deleteContainer(id("77"))
			}
			same(t, survey(t, theirs), survey(t, ours))
			// Comparing trees gives containers/storage's list in the order of a Go map.
			if a, b := peer.changes(id("bb")), shale.changes(id("bb")); !slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))) {
				t.Errorf("changes: theirs %q, ours %q", a, b)
			}
			for _, layer := range []string{id("aa"), id("bb"), id("cc")} {
				if !bytes.Equal(peer.diff(layer), shale.diff(layer)) {
					t.Errorf("layer %s: different exports", layer)
				}
			}
			for _, h := range []hand{peer, shale} {
				h.unmount("box")
				h.unmount("volatile box")
			}
			same(t, survey(t, theirs), survey(t, ours))
		})
	}
}

// Shale and containers-storage take turns in one root: each works on what the other has made.
func TestTurnsWithThePeer(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			cfg := roots(t)
			cfg.Driver = driver
			hands := []hand{shaleHand{t, open(t, cfg)}, peerHand{t, testutil.Peer(t), cfg}}
			base := filepath.Join(t.TempDir(), "base")
			content := layerTar(t, "etc/", "etc/hosts", "bin/", "bin/sh")
			if err := os.WriteFile(base, content, 0o600); err != nil {
				t.Fatal(err)
			}
			for turn := range 4 {
				a, b := hands[turn%2], hands[(turn+1)%2]
				n := fmt.Sprint(turn)
				a.importLayer(id("a"+n), "", base, "base"+n)
				b.createLayer(id("b"+n), "base"+n, true)
				path := a.mount(id("b" + n))
				if again := b.mount(id("b" + n)); again != path {
					t.Fatalf("mounted at %s and at %s", path, again)
				}
				if err := os.WriteFile(filepath.Join(path, "new"), []byte("new"), 0o600); err != nil {
					t.Fatal(err)
				}
				a.unmount(id("b" + n))
				if driver == "overlay" && !isMounted(t, path) {
					t.Fatal("the first unmount ended the mount of two users")
				}
				b.unmount(id("b" + n))
				if isMounted(t, path) {
					t.Fatal("still mounted after the last unmount")
				}
				if x, y := a.changes(id("b"+n)), b.changes(id("b"+n)); !slices.Equal(x, y) || !slices.Equal(x, []string{`Add "/new"`}) {
					t.Fatalf("changes %q and %q", x, y)
				}
				if x, y := a.diff(id("b"+n)), b.diff(id("b"+n)); !bytes.Equal(x, y) {
					t.Fatal("the diffs of the two differ")
				}
				if !bytes.Equal(b.diff(id("a"+n)), content) {
					t.Fatal("a layer doesn't come out as it went in")
				}
				a.createImage(id("c"+n), id("b"+n), "", "img"+n)
				b.setData("image", "img"+n, "manifest", "{}")
				if got := a.data("image", "img"+n, "manifest"); got != "{}" {
					t.Fatalf("data item %q", got)
				}
				b.createContainer(id("d"+n), "img"+n, "", turn > 1, "box"+n)
				a.setData("container", "box"+n, "k", "v")
				b.addNames("box"+n, "box"+n+"b")
				a.mount("box" + n + "b")
				if turn < 2 {
					b.deleteContainer("box" + n) // mounted
					a.deleteImage("img" + n)
				}
			}
			if a, b := hands[0].layers(), hands[1].layers(); !slices.Equal(a, b) || len(a) != 6 {
				t.Fatalf("layers %q and %q", a, b)
			}
			noGarbage(t, hands[0].(shaleHand).s)
		})
	}
}

// survey describes a store's files, without what chance and the clock decide: short names, the IDs of containers' layers, times of creation and of
// directories, tokens and the compressed form of recipes.
func survey(t *testing.T, cfg config.Config) map[string]string {
	t.Helper()
	var rename []string // pairs for a Replacer
	links, err := filepath.Glob(filepath.Join(cfg.GraphRoot, "overlay/*/link"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := containersIn(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		rename = append(rename, c.LayerID, "layer-of-"+c.ID)
	}
	for _, path := range links {
		link, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		layer := strings.NewReplacer(rename...).Replace(filepath.Base(filepath.Dir(path)))
		rename = append(rename, string(link), "link-of-"+layer)
	}
	rename = append(rename, cfg.GraphRoot, "GRAPH", cfg.RunRoot, "RUN")
	neutral := strings.NewReplacer(rename...)
	found := map[string]string{}
	for _, root := range []string{cfg.GraphRoot, cfg.RunRoot} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if e.IsDir() && strings.HasSuffix(path, "/merged") {
				err = fs.SkipDir // what is mounted there
			}
			if line := describe(t, path, neutral); line != "" {
				found[neutral.Replace(path)] = line
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

func containersIn(cfg config.Config) ([]containers.Container, error) {
	s, err := store.Open(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Containers(context.Background())
}

var created = regexp.MustCompile(`"created":"[^"]*"`)

func describe(t *testing.T, path string, neutral *strings.Replacer) string {
	t.Helper()
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(path)
	inLayer := strings.Contains(path, "/diff/") || strings.Contains(path, "/vfs/dir/")
	line := st.Mode().String()
	if inLayer && st.Mode().IsRegular() {
		line += st.ModTime().UTC().String()
	}
	switch {
	case strings.HasSuffix(path, "/overlay"), strings.HasSuffix(path, "/vfs"), strings.HasSuffix(path, "/tempdirs"), strings.HasSuffix(path, "/tmp"):
		return line
	case strings.HasSuffix(name, ".lock"):
		return fmt.Sprint(line, st.Size() >= 64)
	case st.Mode()&fs.ModeSymlink != 0:
		target, _ := os.Readlink(path)
		return line + neutral.Replace(target)
	case !st.Mode().IsRegular():
		return line
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case strings.HasSuffix(name, ".tar-split.gz"):
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if data, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	case strings.HasSuffix(name, ".json"), name == "link", name == "lower", name == "lower-layers":
		return line + created.ReplaceAllString(neutral.Replace(string(data)), `"created":""`)
	}
	return line + fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
}

// eager matches what containers/storage makes when it opens a store, and Shale when it is needed: locks, empty directories, answers of the kernel.
var eager = regexp.MustCompile(`^GRAPH/(storage|userns)\.lock$|^GRAPH/overlay/\.has-mount-program$|^RUN/(overlay|vfs)(-containers|-locks|/[^/]+)$`)

// same reports every path where the two surveys differ.
func same(t *testing.T, theirs, ours map[string]string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(theirs)) {
		if ours[path] == "" && !eager.MatchString(path) {
			t.Errorf("%s: only theirs: %s", path, theirs[path])
		} else if ours[path] != "" && ours[path] != theirs[path] {
			t.Errorf("%s:\n  theirs %s\n  ours   %s", path, theirs[path], ours[path])
		}
	}
	for _, path := range slices.Sorted(maps.Keys(ours)) {
		if theirs[path] == "" {
			t.Errorf("%s: only ours: %s", path, ours[path])
		}
	}
}
