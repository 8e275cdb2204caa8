package fsck_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"

	"github.com/shalestore/shale/tests/storetest"
)

// patient is a store with a bit of everything, for damaging.
//
//	base ── app ── (container box)      images img, old; container box of img
//	pair1, pair2                        the same tar twice, images one, two
//	other ── work                       image good, container busy: never damaged
type patient struct {
	*testing.T
	cfg config.Config
	dir string // graph root
}

func newPatient(t *testing.T, driver string) *patient {
	ctx := context.Background()
	cfg := roots(t)
	cfg.Driver = driver
	p := &patient{t, cfg, cfg.GraphRoot}
	s := p.open()
	same := storetest.RichTar(t, "pair")
	base := importLayer(t, s, id("base"), "", storetest.RichTar(t, "base"), "base").DiffID
	app := importLayer(t, s, id("app"), "base", storetest.RichTar(t, "app"), "app").DiffID
	pair := importLayer(t, s, id("pair1"), "", same).DiffID
	importLayer(t, s, id("pair2"), "", same)
	other := importLayer(t, s, id("other"), "", storetest.RichTar(t, "other"), "other").DiffID
	chains := map[string][]digest.Digest{"app": {base, app}, "base": {base}, "pair1": {pair}, "pair2": {pair},
		"other": {other}}
	if err := s.SetLayerBigData(ctx, id("app"), "some-Item", strings.NewReader("of the layer")); err != nil {
		t.Fatal(err)
	}
	for name, top := range map[string]string{"img": "app", "old": "base", "one": "pair1", "two": "pair2",
		"good": "other"} {
		diffIDs, err := json.Marshal(chains[top])
		p.must(err)
		config := fmt.Appendf(nil, `{"of":%q,"rootfs":{"type":"layers","diff_ids":%s}}`, name, diffIDs)
		manifest := fmt.Appendf(nil, `{"schemaVersion":2,"name":%q,"config":{"digest":%q}}`, name,
			digest.FromBytes(config))
		_, err = s.CreateImage(ctx, store.ImageOptions{ID: id(name), Names: []string{name}, TopLayer: id(top),
			BigData: []images.Item{
				{Key: "manifest", Data: manifest}, {Key: "manifest-again", Data: manifest},
				{Key: "config", Data: config}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, image := range map[string]string{"box": "img", "busy": "good"} {
		_, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id(name), Names: []string{name}, Image: id(image),
			Layer:   id(name + "layer"),
			BigData: []containers.Item{{Key: "state", Data: []byte("state of " + name)}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	noGarbage(t, s)
	return p
}

// open opens the store as another process would.
func (p *patient) open() *store.Store { return open(p.T, p.cfg) }

func (p *patient) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// path is a place in the graph root. A word with a colon in front stands for the ID that
// it makes.
func (p *patient) path(parts ...string) string {
	for n, part := range parts {
		if word, ok := strings.CutPrefix(part, ":"); ok {
			parts[n] = id(word)
		}
	}
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

func (p *patient) diff(layer, name string) string { return p.path("overlay", ":"+layer, "diff", name) }

func (p *patient) recipe(layer string) string {
	return p.path("overlay-layers", id(layer)+".tar-split.gz")
}

func (p *patient) remove(paths ...string) {
	p.Helper()
	for _, path := range paths {
		if _, err := os.Lstat(path); err != nil {
			p.Fatal(err)
		}
		p.must(os.RemoveAll(path))
	}
}

func (p *patient) read(path string) []byte {
	p.Helper()
	data, err := os.ReadFile(path)
	p.must(err)
	return data
}

func (p *patient) write(path, content string) {
	p.Helper()
	p.must(os.MkdirAll(filepath.Dir(path), 0o755))
	p.must(os.WriteFile(path, []byte(content), 0o644))
}

// edit changes bytes and leaves size and time as they are.
func (p *patient) edit(path, from, to string) {
	p.Helper()
	info, err := os.Stat(path)
	p.must(err)
	before := string(p.read(path))
	if !strings.Contains(before, from) {
		p.Fatalf("%s has no %q: %.300s", path, from, before)
	}
	p.must(os.WriteFile(path, []byte(strings.Replace(before, from, to, 1)), 0o644))
	p.must(os.Chtimes(path, info.ModTime(), info.ModTime()))
}

// swap exchanges two files.
func (p *patient) swap(a, b string) {
	p.Helper()
	p.must(unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
}

// shortName is where a layer's short name is.
func (p *patient) shortName(layer string) string {
	return p.path("overlay/l", string(p.read(p.path("overlay", ":"+layer, "link"))))
}

// record edits one record of a file.
func (p *patient) record(file, word string, change func(map[string]any)) {
	p.Helper()
	var all []map[string]any
	p.must(json.Unmarshal(p.read(p.path(file)), &all))
	n := slices.IndexFunc(all, func(r map[string]any) bool { return r["id"] == id(word) })
	if n < 0 {
		p.Fatalf("%s has no %s", file, word)
	}
	change(all[n])
	if all[n]["id"] == nil {
		all = slices.Delete(all, n, n+1)
	}
	data, err := json.Marshal(all)
	p.must(err)
	p.must(os.WriteFile(p.path(file), data, 0o600))
}

// drop takes a record out.
func (p *patient) drop(file, word string) {
	p.record(file, word, func(r map[string]any) { delete(r, "id") })
}

// recompress rewrites a recipe.
func (p *patient) recompress(layer string, change func(string) string) {
	p.Helper()
	in, err := gzip.NewReader(bytes.NewReader(p.read(p.recipe(layer))))
	p.must(err)
	text, err := io.ReadAll(in)
	p.must(err)
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	io.WriteString(w, change(string(text)))
	p.must(w.Close())
	p.must(os.WriteFile(p.recipe(layer), out.Bytes(), 0o600))
}

// objects lists what there is: "layer app", "image img", "container box".
func (p *patient) objects(s *store.Store) (all []string) {
	p.Helper()
	name := func(whole string) string {
		for _, word := range []string{"base", "app", "pair1", "pair2", "other", "img", "old", "one", "two", "good",
			"boxlayer", "busylayer", "box", "busy"} {
			if whole == id(word) {
				return word
			}
		}
		return whole
	}
	ls, err := allLayers(s)
	p.must(err)
	for _, l := range ls {
		all = append(all, "layer "+name(l.ID))
	}
	is, err := allImages(s)
	p.must(err)
	for _, i := range is {
		all = append(all, "image "+name(i.ID))
	}
	cs, err := allContainers(s)
	p.must(err)
	for _, c := range cs {
		all = append(all, "container "+name(c.ID))
	}
	slices.Sort(all)
	return all
}

// shortNameOnce is shortName for a layer whose directory may be gone.
func (p *patient) shortNameOnce(layer string) string {
	entries, err := os.ReadDir(p.path("overlay/l"))
	p.must(err)
	for _, e := range entries {
		if target, _ := os.Readlink(p.path("overlay/l", e.Name())); target == "../"+id(layer)+"/diff" {
			return p.path("overlay/l", e.Name())
		}
	}
	p.Fatalf("layer %s has no short name", layer)
	return ""
}
