package promises_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/manifest"
	"golang.org/x/sys/unix"
)

// world is one store, and what lies around it.
type world struct {
	t                 *testing.T
	rng               *rand.Rand
	shale             string
	damages, commands tally
	dir, outside      string
	cfg               config.Config
	sentinel          map[string]string // what is outside, as it was
	mounts            []string          // mount IDs of what is mounted by others, with their mount points
	objects           map[string]*object
	log               []string // what was done, for a failure
}

// object is a layer, an image or a container, with the text that one of its files has and
// no other.
type object struct {
	kind, id, marker string
	below            []string // what it stands on, by word
	// precious is what can't be had anywhere else: repair keeps it, whatever it stands
	// on.
	precious bool
	harmed   bool
}

func id(word string) string { return (fmt.Sprintf("%x", word) + strings.Repeat("e", 64))[:64] }

func archive(marker string) *bytes.Reader {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	_ = w.WriteHeader(&tar.Header{Name: "etc/", Mode: 0o755, Typeflag: tar.TypeDir})
	_ = w.WriteHeader(&tar.Header{Name: "etc/" + marker, Mode: 0o644, Size: int64(len(marker)), Typeflag: tar.TypeReg})
	_, _ = w.Write([]byte(marker))
	_ = w.Close()
	return bytes.NewReader(out.Bytes())
}

func newWorld(t *testing.T, shale string, rng *rand.Rand, damages, commands tally) *world {
	w := &world{t: t, rng: rng, shale: shale, damages: damages, commands: commands, dir: t.TempDir(),
		objects: map[string]*object{}}
	w.must(unix.Mount("tmpfs", w.dir, "tmpfs", 0, "mode=0755,size=64m"))
	t.Cleanup(func() { unix.Unmount(w.dir, unix.MNT_DETACH) })
	t.Cleanup(func() { testutil.UnmountBelow(w.dir) })
	driver := "overlay"
	if rng.IntN(5) == 0 {
		driver = "vfs"
	}
	w.cfg = config.Config{GraphRoot: filepath.Join(w.dir, "root"), RunRoot: filepath.Join(w.dir, "run"), Driver: driver}
	w.outside = filepath.Join(w.dir, "outside")
	testutil.Tree(t, w.outside, "file=secret", "diff/secret=x", "temp-dir-7/kept=x", "work/incompat/volatile/", "l/",
		"key=secret", "layers.json=[]", "mnt/", "merged/x=x")
	w.must(unix.Mount("tmpfs", filepath.Join(w.outside, "mnt"), "tmpfs", 0, "size=1m"))
	w.must(os.WriteFile(filepath.Join(w.outside, "mnt/kept"), []byte("x"), 0o600))
	w.foreign(filepath.Join(w.outside, "mnt"))
	if rng.IntN(4) == 0 { // another store, which this one reads
		other := config.Config{GraphRoot: filepath.Join(w.outside, "store"), RunRoot: filepath.Join(w.dir, "otherrun"),
			Driver: driver}
		s := w.open(other)
		_, err := s.ImportLayer(t.Context(), layers.CreateOptions{ID: id("lib")}, archive("marker-lib"), nil)
		_, ierr := s.CreateImage(t.Context(), store.ImageOptions{ID: id("libimage"), TopLayer: id("lib")})
		w.must(errors.Join(err, ierr, s.Close()))
		w.cfg.AdditionalImageStores = []string{other.GraphRoot}
		w.damages["(with an additional image store)"]++
	}
	w.furnish()
	w.sentinel = testutil.Snapshot(t, w.outside)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open(cfg config.Config) *store.Store {
	s, err := store.Open(w.t.Context(), cfg)
	w.must(err)
	return s
}

// furnish makes a store with something of each kind.
func (w *world) furnish() {
	ctx := w.t.Context()
	s := w.open(w.cfg)
	object := func(kind, word string, precious bool, below ...string) string {
		o := &object{kind: kind, id: id(word), marker: "marker-" + word, below: below, precious: precious}
		w.objects[word] = o
		return o.marker
	}
	layer := func(word, parent string, names ...string) {
		opts := layers.CreateOptions{ID: id(word), Names: names}
		var below []string
		if parent != "" {
			opts.Parent, below = id(parent), []string{parent}
		}
		_, err := s.ImportLayer(ctx, opts, archive(object("layer", word, len(names) > 0, below...)), nil)
		w.must(err)
	}
	write := func(ref, marker string) {
		path, err := s.Mount(ctx, ref, store.MountOptions{})
		w.must(err)
		w.must(os.WriteFile(filepath.Join(path, marker), []byte(marker), 0o600))
		_, err = s.Unmount(ctx, ref, false)
		w.must(err)
	}
	layer("base", "", "base:1")
	layer("mid", "base")
	layer("alone", "")
	_, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id("work"), Parent: id("base"), Names: []string{"work"},
		Writable: true})
	w.must(err)
	write(id("work"), object("layer", "work", true, "base"))
	for word, top := range map[string]string{"img": "mid", "img2": "base"} {
		items, err := manifest.Describe(ctx, s, id(top), time.Unix(1_700_000_000, 0))
		w.must(err)
		marker := object("image", word, false, top)
		items = append(items, images.Item{Key: "note", Data: []byte(marker)})
		_, err = s.CreateImage(ctx, store.ImageOptions{ID: id(word), Names: []string{word + ":1"}, TopLayer: id(top),
			BigData: items})
		w.must(err)
	}
	for word, image := range map[string]string{"box": "img", "idle": "img2"} {
		marker := object("container", word, true, image)
		_, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id(word), Layer: id(word + "layer"),
			Names: []string{word}, Image: id(image)})
		w.must(err)
		write(id(word), marker)
	}
	w.must(s.Close())
}

// foreign remembers a mount that isn't the store's.
func (w *world) foreign(path string) {
	found, err := mountIDs(path)
	w.must(err)
	if len(found) == 0 {
		w.t.Fatalf("%s: not mounted", path)
	}
	w.mounts = append(w.mounts, found[len(found)-1]+" "+path)
}

// mountIDs are the IDs of what is mounted on a path, the lowest first.
func mountIDs(path string) (found []string, err error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); fields[4] == path {
			found = append(found, fields[0])
		}
	}
	return found, err
}

// mountPoint is where a mount is, "" for nowhere.
func mountPoint(mountID string) (string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); fields[0] == mountID {
			return fields[4], nil
		}
	}
	return "", err
}

// outsideStays sees that nothing around the store has changed.
func (w *world) outsideStays(after string) {
	w.t.Helper()
	if changed := testutil.Diff(w.sentinel, testutil.Snapshot(w.t, w.outside)); len(changed) > 0 {
		w.fail("%s changed what is outside: %q", after, changed)
	}
	for _, m := range w.mounts {
		mountID, first, _ := strings.Cut(m, " ")
		path, err := mountPoint(mountID) // which moves along with a directory above it
		if err != nil || path == "" {
			w.fail("%s unmounted what was mounted on %s: %v", after, first, err)
		}
		if _, err := os.Stat(filepath.Join(path, "kept")); errors.Is(err, fs.ErrNotExist) {
			w.fail("%s deleted in what is mounted on %s", after, path)
		}
	}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\nafter:\n  %s", fmt.Sprintf(format, args...), strings.Join(w.log, "\n  "))
}

// soundStays sees that what wasn't damaged is still there.
func (w *world) soundStays() {
	w.t.Helper()
	there := map[string]bool{}
	w.must(filepath.WalkDir(w.cfg.GraphRoot, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // damage is in the way
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.Size() < 100 {
			if data, err := os.ReadFile(path); err == nil {
				there[string(data)] = true
			}
		}
		return nil
	}))
	for word, o := range w.objects {
		if w.sound(word) && !there[o.marker] {
			w.fail("the %s %s (%s) is lost", o.kind, word, o.id)
		}
	}
}

// sound reports whether an object has to outlive a repair: its own files are whole, and
// what it stands on is, unless it is precious.
func (w *world) sound(word string) bool {
	o := w.objects[word]
	if o.harmed {
		return false
	}
	return o.precious || !slices.ContainsFunc(o.below, func(below string) bool { return !w.sound(below) })
}
