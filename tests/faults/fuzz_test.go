package faults

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
)

func TestMain(m *testing.M) {
	if os.Getenv(shimVariable) != "" {
		shim()
	}
	testutil.Main(m)
}

// recordFiles are what is read as records, below the directory of graph and run root.
var recordFiles = []string{"root/overlay-images/images.json", "root/overlay-containers/containers.json",
	"run/overlay-layers/mountpoints.json", "root/overlay-layers/layers.json",
	"root/overlay-layers/volatile-layers.json", "root/overlay-containers/volatile-containers.json"}

// FuzzRecordFiles puts any bytes in the place of a file of records. Whatever they are, no
// verb panics, hangs or shows what is outside, and an error has a class. Then the store
// is repaired, every other time: layers are never lost to what stands in the records of
// something else.
func FuzzRecordFiles(f *testing.F) {
	v := newVictim(f)
	for i, name := range recordFiles {
		if data, err := os.ReadFile(filepath.Join(v.dir, "store", name)); err == nil {
			f.Add(byte(i), data)
			f.Add(byte(i|0x80), data[:len(data)*2/3])
			f.Add(byte(i|0xc0), bytes.ReplaceAll(data, []byte(top), []byte(base)))
		}
		for _, data := range []string{"", "null", "[]", "{}", "[null]", "[{}]", `[{"id":""}]`, "\xef\xbb\xbf[]",
			`[{"id":"../../outside"}]`, `[{"id":"` + base + `"},{"id":"` + base + `"}]`,
			`[{"id":"` + base + `","parent":"` + base + `"}]`, `[{"id":"` + top + `","names":["","x","x"]}]`,
			`[{"id":"` + base + `","path":"` + v.outside + `","count":1}]`,
			`[{"id":"` + base + `","big-data-names":["../key"],"big-data-sizes":{"../key":-1}}]`,
			`[{"id":"` + image + `","layer":"` + boxTop + `","mapped-layers":["` + base + `","nobody"]}]`,
			`[{"id":"` + box + `","layer":"` + base + `","image":"` + box + `"}]`,
			`[{"id":"` + base + `","flags":{"incomplete":true}}]`,
			`[{"id":"` + base + `","diff-digest":"sha256:../../x","created":"9999-12-31T23:59:59Z"}]`,
		} {
			f.Add(byte(i), []byte(data))
			f.Add(byte(i|0x80), []byte(data))
		}
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		v.reset(t)
		name := recordFiles[int(which&0x3f)%len(recordFiles)]
		path := filepath.Join(v.dir, "store", name)
		was, rerr := os.ReadFile(path)
		must(t, os.WriteFile(path, data, 0o600))
		v.soiled = true
		v.look(t, boxTop, which&0x40 != 0)
		if which&0x80 == 0 {
			if which&0x40 == 0 || !mountedByLook(name) {
				v.soiled = false
				if rerr == nil {
					must(t, os.WriteFile(path, was, 0o600))
				} else {
					must(t, os.Remove(path))
				}
			}
			return
		}
		v.repair(t)
		if filepath.Base(filepath.Dir(name)) != "overlay-layers" {
			v.hasLayers(t)
		}
	})
}

// mountedByLook tells of the files that counting mounts writes.
func mountedByLook(name string) bool { return filepath.Base(name) == "mountpoints.json" }

// hasLayers fails the test unless all layers are there as they were.
func (v *victim) hasLayers(t *testing.T) {
	t.Helper()
	var ids []string
	err := v.try(t, "list", func(ctx context.Context, s *store.Store) error {
		return s.View(ctx, func(tx *store.ReadTx) error {
			all, err := tx.Layers()
			for _, l := range all {
				ids = append(ids, l.ID)
			}
			return err
		})
	})
	if want := []string{base, top, boxTop}; err != nil || !slices.Equal(ids, want) {
		t.Fatalf("layers %q after repair, want %q: %v", ids, want, err)
	}
	for _, id := range []string{base, top} {
		if data, err := os.ReadFile(v.cfg.GraphRoot + "/overlay/" + id + "/diff/etc/hosts"); string(data) != "hosts" {
			t.Fatalf("layer %s has lost its content: %q, %v", id, data, err)
		}
	}
}

// FuzzDriverFiles puts any bytes in the place of the overlay driver's small files, of a
// link's target, and of the tar-split file, once packed and once as it is.
func FuzzDriverFiles(f *testing.F) {
	v := newVictim(f)
	places := []string{"lower", "link", "lower-layers"}
	for i, name := range places {
		for _, id := range []string{base, top, boxTop} {
			if data, err := os.ReadFile(filepath.Join(v.cfg.GraphRoot, "overlay", id, name)); err == nil {
				f.Add(byte(i|0x20), data)
				f.Add(byte(i|0x80), data[:len(data)/2])
				f.Add(byte(i|0xe8), append(bytes.Clone(data), ':'))
			}
		}
		for _, data := range []string{"", ":", "\n", "l/..", "l/../../outside", v.outside, "l/AAAA:l/AAAA", "../l",
			base + ":" + base, top, "a,lowerdir=/", "l/\\:x", "l/X\x00Y"} {
			f.Add(byte(i|0x20), []byte(data))
			f.Add(byte(i|0xa0), []byte(data))
			f.Add(byte(i|0x68), []byte(data))
		}
	}
	for _, data := range []string{"../" + top + "/diff", "../" + base + "/diff", v.outside, "../../../outside", "/",
		"x"} {
		f.Add(byte(0x63), []byte(data))
		f.Add(byte(0xab), []byte(data))
	}
	split, err := os.ReadFile(filepath.Join(v.cfg.GraphRoot, "overlay-layers", base+".tar-split.gz"))
	must(f, err)
	f.Add(byte(4), split)
	f.Add(byte(0x84), split[:len(split)-4])
	r, err := gzip.NewReader(bytes.NewReader(split))
	must(f, err)
	var lines bytes.Buffer
	_, err = lines.ReadFrom(r)
	must(f, err)
	f.Add(byte(5), lines.Bytes())
	f.Add(byte(0x85), bytes.ReplaceAll(lines.Bytes(), []byte("etc/hosts"), []byte("../outside/file")))

	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		v.reset(t)
		v.soiled = true
		home := filepath.Join(v.cfg.GraphRoot, "overlay")
		layer := []string{base, top, boxTop}[int(which>>3&3)%3]
		switch kind := int(which&0x7) % 6; kind {
		case 0, 1, 2:
			must(t, os.WriteFile(filepath.Join(home, layer, places[kind]), data, 0o644))
		case 3:
			link, err := os.ReadFile(filepath.Join(home, layer, "link"))
			must(t, err)
			must(t, os.Remove(filepath.Join(home, "l", string(link))))
			if len(data) == 0 || len(data) > 4000 || bytes.IndexByte(data, 0) >= 0 {
				return
			}
			must(t, os.Symlink(string(data), filepath.Join(home, "l", string(link))))
		default:
			var packed bytes.Buffer
			if packed.Write(data); kind == 5 {
				packed.Reset()
				w := gzip.NewWriter(&packed)
				_, err := w.Write(data)
				must(t, errors.Join(err, w.Close()))
			}
			must(t, os.WriteFile(filepath.Join(v.cfg.GraphRoot, "overlay-layers", layer+".tar-split.gz"),
				packed.Bytes(), 0o600))
		}
		v.look(t, []string{layer, boxTop}[which>>6&1], which&0x20 != 0)
		if which&0x80 != 0 {
			v.repair(t)
		}
	})
}
