package promises_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// damage does the store between no and three kinds of harm.
func (w *world) damage() {
	w.must(os.WriteFile(filepath.Join(w.dir, "layer.tar"), must(readAll("marker-new")), 0o600))
	w.must(os.Mkdir(filepath.Join(w.dir, "copies"), 0o755))
	for range w.rng.IntN(4) {
		switch w.rng.IntN(10) {
		case 0, 1:
			w.editRecord()
		case 2:
			w.listMount()
		case 3:
			w.stray()
		default:
			w.put()
		}
	}
	if len(w.log) == 0 {
		w.damages["(none)"]++
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func readAll(marker string) ([]byte, error) {
	r := archive(marker)
	data := make([]byte, r.Len())
	_, err := r.Read(data)
	return data, err
}

func (w *world) did(kind, format string, args ...any) {
	w.damages[kind]++
	w.log = append(w.log, kind+": "+fmt.Sprintf(format, args...))
}

// somewhere is a path of the store, by chance: a directory or a file.
func (w *world) somewhere() string {
	var all []string
	for _, root := range []string{w.cfg.GraphRoot, w.cfg.RunRoot} {
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && path != root {
				all = append(all, path)
			}
			if err == nil && e.IsDir() && strings.Contains(path, "/merged") {
				return fs.SkipDir
			}
			return nil
		})
	}
	return pick(w.rng, all)
}

// harm marks whose files lie at or below a path, or have the path for one of their own.
func (w *world) harm(path string) {
	rel, _ := filepath.Rel(w.dir, path)
	small := []string{"link", "lower", "lower-layers", "work", "empty"}
	if slices.Contains(small, filepath.Base(path)) || strings.Contains(path, "/overlay/l/") {
		return // what can be made anew
	}
	below := map[string]bool{}
	_ = filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil && info.Size() < 100 {
				data, _ := os.ReadFile(path)
				below[string(data)] = true
			}
		}
		return nil
	})
	for word, o := range w.objects {
		if strings.Contains(rel, o.id) || below[o.marker] || o.kind == "container" &&
			strings.Contains(rel, id(word+"layer")) {
			o.harmed = true
		}
	}
}

// put puts something else in the place of what is there.
func (w *world) put() {
	path := w.somewhere()
	st, err := os.Lstat(path)
	if err != nil {
		return
	}
	replace := func(create func() error) func() error {
		return func() error {
			if err := os.RemoveAll(path); err != nil {
				if errors.Is(err, unix.EBUSY) {
					return nil // a foreign mount is in there
				}
				return err
			}
			return create()
		}
	}
	garbage := make([]byte, w.rng.IntN(300))
	for i := range garbage {
		garbage[i] = byte(w.rng.UintN(256))
	}
	ways := map[string]func() error{
		"link to a file":      replace(func() error { return os.Symlink(filepath.Join(w.outside, "file"), path) }),
		"link to a directory": replace(func() error { return os.Symlink(w.outside, path) }),
		"link to nothing":     replace(func() error { return os.Symlink("/no/such/thing", path) }),
		"link within": replace(func() error {
			return os.Symlink(filepath.Join(w.cfg.GraphRoot, w.cfg.Driver),
				path)
		}),
		"pipe": replace(func() error { return unix.Mkfifo(path, 0o600) }),
		"device": replace(func() error {
			return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))
		}),
		"socket":          replace(func() error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) }),
		"empty directory": replace(func() error { return os.Mkdir(path, 0o700) }),
		"empty file":      replace(func() error { return os.WriteFile(path, nil, 0o600) }),
		"garbage":         replace(func() error { return os.WriteFile(path, garbage, 0o600) }),
		"removed":         replace(func() error { return nil }),
		"renamed": func() error {
			if err := os.Rename(path, path+".old"); !errors.Is(err, unix.EBUSY) {
				return err
			}
			return nil
		},
	}
	if st.Mode().IsRegular() && st.Size() > 0 {
		ways["cut"] = func() error { return os.Truncate(path, w.rng.Int64N(st.Size())) }
		ways["flipped bit"] = func() error {
			data, err := os.ReadFile(path)
			if err == nil {
				data[w.rng.IntN(len(data))] ^= 1 << w.rng.IntN(8)
				err = os.WriteFile(path, data, st.Mode().Perm())
			}
			return err
		}
		ways["foreign mount"] = func() error {
			return unix.Mount(filepath.Join(w.outside, "mnt/kept"), path, "", unix.MS_BIND, "")
		}
	}
	if st.IsDir() {
		ways["foreign mount"] = func() error {
			if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size=1m"); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(path, "kept"), []byte("x"), 0o600)
		}
	}
	kinds := slices.Sorted(func(yield func(string) bool) {
		for kind := range ways {
			if !yield(kind) {
				return
			}
		}
	})
	kind := pick(w.rng, kinds)
	w.harm(path)
	if kind == "flipped bit" && strings.HasSuffix(path, ".json") {
		w.harmAll() // an ID may read otherwise, and its files are garbage then
	}
	w.must(ways[kind]())
	if kind == "foreign mount" && st.IsDir() {
		w.foreign(path)
	}
	w.did(kind, "%s", path)
}

func (w *world) harmAll() {
	for _, o := range w.objects {
		o.harmed = true
	}
}

// editRecord gives a member of a record another value.
func (w *world) editRecord() {
	kind := pick(w.rng, []string{"layers", "layers", "images", "containers"})
	path := filepath.Join(w.cfg.GraphRoot, w.cfg.Driver+"-"+kind, kind+".json")
	if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() {
		return
	}
	data, err := os.ReadFile(path)
	var records []map[string]any
	if err != nil || json.Unmarshal(data, &records) != nil || len(records) == 0 {
		return
	}
	record := pick(w.rng, records)
	members := []string{"id", "names", "created", "big-data-names", "flags", "metadata"}
	switch kind {
	case "layers":
		members = append(members, "parent", "parent", "diff-digest", "diff-size", "compression", "uidset")
	case "images":
		members = append(members, "layer", "digest", "mapped-layers", "big-data-sizes", "big-data-digests")
	case "containers":
		members = append(members, "layer", "image", "big-data-sizes")
	}
	member := pick(w.rng, members)
	values := []any{nil, "", "../../outside", "/etc", record["id"], id("base"), id("img"), id("nobody"), -1, 1e300,
		[]string{"../../../outside/file"}, []string{"base:1"}, []string{"a\nb"}, map[string]any{"incomplete": true},
		map[string]any{"x": -5}, strings.Repeat("z", 5000), true}
	value := pick(w.rng, values)
	for _, o := range w.objects {
		if o.id == record["id"] || o.kind == "container" && record["id"] == id(strings.TrimPrefix(o.marker, "marker-")+
			"layer") {
			o.harmed = true
		}
	}
	if value == id("base") || value == id("img") { // twice: which is meant, nobody knows
		w.objects["base"].harmed, w.objects["img"].harmed = true, true
	}
	record[member] = value
	data, err = json.Marshal(records)
	w.must(err)
	w.must(os.WriteFile(path, data, 0o600))
	w.did("edited record", "%s: %s = %.60v", path, member, value)
}

// listMount says in the table of mounts that a layer is mounted elsewhere.
func (w *world) listMount() {
	path := filepath.Join(w.cfg.RunRoot, w.cfg.Driver+"-layers", "mountpoints.json")
	if st, err := os.Lstat(filepath.Dir(path)); err != nil || !st.IsDir() {
		return
	}
	if st, err := os.Lstat(path); err == nil && !st.Mode().IsRegular() {
		return
	}
	where := pick(w.rng, []string{filepath.Join(w.outside, "mnt"), "/", w.outside, "", "relative", w.cfg.GraphRoot})
	word := pick(w.rng, []string{"base", "work", "boxlayer", "mid", "nobody"})
	w.must(os.WriteFile(path, must(json.Marshal([]map[string]any{
		{"id": id(word), "path": where, "count": pick(w.rng, []int{1, 2, 0, -3})}})), 0o600))
	w.did("listed mount", "%s on %q", word, where)
}

// stray leaves something in a directory of the format that doesn't belong there.
func (w *world) stray() {
	dir := w.somewhere()
	if st, err := os.Lstat(dir); err != nil || !st.IsDir() || strings.Contains(dir, "/diff") {
		return
	}
	path := filepath.Join(dir, pick(w.rng, []string{"stray", id("stray"), "lock-5", "temp-dir-5", ".tmp-x",
		strings.Repeat("A", 26), "layers.json.damaged", id("base") + ".damaged", "=a2V5"}))
	if _, err := os.Lstat(path); err == nil || strings.Contains(dir, w.cfg.Driver+"/") && w.cfg.Driver == "vfs" {
		return
	}
	w.must(pick(w.rng, []func() error{
		func() error { return os.Mkdir(path, 0o700) },
		func() error { return os.WriteFile(path, []byte("stray"), 0o600) },
		func() error { return os.Symlink(w.outside, path) },
		func() error { return unix.Mkfifo(path, 0o600) },
	})())
	w.did("stray", "%s", path)
}
