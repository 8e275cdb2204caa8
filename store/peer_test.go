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
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
)

// The same work done by Shale and by containers-storage leaves the same files: records to
// the byte, names, modes, owners and contents, apart from what chance and the clock
// decide.
func TestSameFilesAsThePeer(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			ours, theirs := roots(t), roots(t)
			ours.Driver, theirs.Driver = driver, driver
			peer := peerHand{t, testutil.Peer(t), theirs}
			shale := shaleHand{t, open(t, ours)}
			tars := t.TempDir()
			base, child, compressed := filepath.Join(tars, "base"), filepath.Join(tars, "child"),
				filepath.Join(tars, "gz")
			var gz bytes.Buffer
			z := gzip.NewWriter(&gz)
			z.Write(layerTar(t, "usr/", "usr/a", "b"))
			z.Close()
			for path, data := range map[string][]byte{
				base:  layerTar(t, "etc/", "etc/hosts", "bin/", "bin/sh"),
				child: layerTar(t, "etc/", "etc/.wh.hosts", "new"), compressed: gz.Bytes(),
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
			if a, b := peer.changes(id("bb")), shale.changes(id("bb")); !slices.Equal(slices.Sorted(slices.Values(a)),
				slices.Sorted(slices.Values(b))) {
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

// Shale and containers-storage take turns in one root: each works on what the other has
// made.
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
				if x, y := a.changes(id("b"+n)), b.changes(id("b"+n)); !slices.Equal(x, y) ||
					!slices.Equal(x, []string{`Add "/new"`}) {
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

// survey describes a store's files, without what chance and the clock decide: short
// names, the IDs of containers' layers, times of creation and of directories, tokens and
// the compressed form of tar-split files.
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
			if path == filepath.Join(root, "shale") {
				return fs.SkipDir // our own, where no other program looks
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
	return allContainers(s)
}

var created = regexp.MustCompile(`"created":"[^"]*"`)

func describe(t *testing.T, path string, neutral *strings.Replacer) string {
	t.Helper()
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(path)
	if name == "importing.lock" {
		return "" // in the run root, and between Stores only
	}
	inLayer := strings.Contains(path, "/diff/") || strings.Contains(path, "/vfs/dir/")
	line := st.Mode().String()
	if inLayer && st.Mode().IsRegular() {
		line += st.ModTime().UTC().String()
	}
	switch {
	case strings.HasSuffix(path, "/overlay"), strings.HasSuffix(path, "/vfs"), strings.HasSuffix(path, "/tempdirs"),
		strings.HasSuffix(path, "/tmp"):
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

// eager matches what containers/storage makes when it opens a store, and Shale when it is
// needed: locks, empty directories, answers of the kernel.
var eager = regexp.MustCompile(
	`^GRAPH/(storage|userns)\.lock$|^GRAPH/overlay/\.has-mount-program$|^RUN/(overlay|vfs)(-containers|-locks|/[^/]+)$`)

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
