package whiteouts

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

func TestMain(m *testing.M) { testutil.MainAsRoot(m) }

// SHALE_WHITEOUTS is how many chains are tried, SHALE_SEED the first one's seed.
func TestRandomChains(t *testing.T) {
	count, seed := testutil.Count(t, "SHALE_WHITEOUTS", 40, 10_000), testutil.Seed(t)
	stores := open(t)
	for i := range count {
		r := rand.New(rand.NewPCG(seed+uint64(i), 0))
		made := chain(r)
		shown := tree{}
		for _, layer := range made {
			shown = right(shown, layer)
		}
		done := acts(r, shown)
		fails := func(made [][]member, done []act) error { return try(t.Context(), stores, made, done) }
		if err := fails(made, done); err != nil {
			fewer, less, again := shrink(made, done, fails)
			t.Fatalf("SHALE_SEED=%d: layers %v, in the mount %v: %v; shrunk from layers %v, %v: %v",
				seed+uint64(i), fewer, less, again, made, done, err)
		}
	}
}

// Each case is one that once came out wrong, by the letter that it has in the list of
// faults.
func TestKnownCases(t *testing.T) {
	stores := open(t)
	file := func(name string) member { return member{name: name, body: name} }
	name := func(name string) member { return member{name: name} }
	for _, c := range []struct {
		name   string
		layers [][]member
		done   []act
	}{
		{"a hard link into AUFS's scratch directory", [][]member{{name(".wh..wh.plnk/"), file(".wh..wh.plnk/103.11"),
			name("bin/"), {name: "bin/x", link: ".wh..wh.plnk/103.11"}}}, nil},
		{"a whiteout, then a file beneath it", [][]member{{file("a/d/x")}, {name("a/.wh.d"), file("a/d/new")}}, nil},
		{"a file, then its whiteout", [][]member{{file("etc/old")}, {name("etc/"),
			{name: "etc/old", body: "new"}, name("etc/.wh.old")}}, nil},
		{"a directory with content, then its whiteout", [][]member{{file("d/old")}, {file("d/new"), name(".wh.d")}},
			nil},
		{"an opaque root", [][]member{{file("d/a"), file("z")}, {name(".wh..wh..opq"), file("n")}}, nil},
		{"an opaque root over a directory of its own", [][]member{{file("d/a")}, {file("d/n"), name(".wh..wh..opq")}},
			nil},
		{"a whiteout in a new directory", [][]member{{file("f")}, {name("new/"), name("new/.wh.ghost")}}, nil},
		{"a whiteout in an opaque directory", [][]member{{file("d/b")}, {name("d/"), name("d/.wh..wh..opq"),
			name("d/.wh.b")}}, nil},
		{"a file, then a directory of the name", [][]member{{file("c/b")}, {file("c"), name("c/")}}, nil},
		{"a directory in an opaque one, of the same looks", [][]member{{name("d/"), name("d/s/"), file("d/s/t")},
			{name("d/"), name("d/.wh..wh..opq"), name("d/s/"), file("d/s/u")}}, nil},
		{"a whiteout beneath a whiteout", [][]member{{file("d/x")}, {name(".wh.d"), name("d/.wh.x")}}, nil},
		{"a directory made again", [][]member{{file("d/a"), file("d/b"), file("d/s/t")}},
			[]act{{what: "remove", name: "d"}, {what: "write", name: "d/b"}}},
		{"a file replaced by a directory", [][]member{{file("f")}}, []act{{what: "remove", name: "f"},
			{what: "write", name: "f/x"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := try(t.Context(), stores, c.layers, c.done); err != nil {
				t.Error(err)
			}
		})
	}
}

// What a layer removes can't be the target of its hard links.
func TestHardLinkToARemovedName(t *testing.T) {
	for driver, s := range open(t) {
		base, err := add(t.Context(), s, "", []member{{name: "a", body: "1"}, {name: "b", body: "2"}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = add(t.Context(), s, base, []member{{name: ".wh.a"}, {name: "b", link: "a"}})
		if err == nil || !strings.Contains(err.Error(), `hard link to "a"`) {
			t.Errorf("%s: %v", driver, err)
		}
	}
}

func open(t *testing.T) map[string]*store.Store {
	testutil.Root(t)
	stores := map[string]*store.Store{}
	for _, driver := range []string{"overlay", "vfs"} {
		dir := t.TempDir()
		s, err := store.Open(t.Context(), config.Config{GraphRoot: dir + "/root", RunRoot: dir + "/run",
			Driver: driver})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			s.Close()
			testutil.UnmountBelow(dir)
		})
		stores[driver] = s
	}
	return stores
}

// try makes the layers with both drivers, and compares what comes of them with the
// specification.
func try(ctx context.Context, stores map[string]*store.Store, made [][]member, done []act) (err error) {
	defer func() {
		if p := recover(); p != nil { // so that it is shrunk like any other failure
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	for _, driver := range []string{"overlay", "vfs"} {
		var ids []string
		err := tryOn(ctx, stores, driver, made, done, &ids)
		for _, id := range slices.Backward(ids) {
			for _, s := range stores {
				s.Unmount(ctx, id, true)
				_ = s.DeleteLayer(ctx, id, store.DeleteOptions{}) // the other store doesn't have it
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", driver, err)
		}
	}
	return nil
}

func tryOn(ctx context.Context, stores map[string]*store.Store, driver string, made [][]member, done []act,
	ids *[]string) error {
	s := stores[driver]
	shown, parent := tree{}, ""
	for i, layer := range made {
		id, err := add(ctx, s, parent, layer)
		if err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		*ids = append(*ids, id)
		lower := shown
		shown = right(lower, layer)
		if err := shows(ctx, s, id, shown); err != nil {
			return fmt.Errorf("layer %d: mounted: %w", i, err)
		}
		if err := lists(ctx, s, id, lower, shown); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		if driver == "overlay" { // the tar that is recorded says nothing of the directory
			var out bytes.Buffer
			if err := s.Diff(ctx, &out, id, "", store.DiffOptions{FromFiles: true}); err != nil {
				return fmt.Errorf("layer %d: diff: %w", i, err)
			}
			if err := again(ctx, s, parent, out.Bytes(), shown); err != nil {
				return fmt.Errorf("layer %d: %w", i, err)
			}
		}
		parent = id
	}
	return tryMounted(ctx, s, parent, shown, done, ids)
}

// tryMounted changes files through a mount.
func tryMounted(ctx context.Context, s *store.Store, parent string, lower tree, done []act, ids *[]string) error {
	layer, err := s.CreateLayer(ctx, layers.CreateOptions{Parent: parent, Writable: true})
	if err != nil {
		return err
	}
	*ids = append(*ids, layer.ID)
	root, err := s.Mount(ctx, layer.ID, store.MountOptions{})
	if err != nil {
		return err
	}
	for i, a := range done {
		name, to := filepath.Join(root, a.name), filepath.Join(root, a.to)
		switch a.what { // what can't be done isn't, and what comes is compared
		case "write":
			_ = os.MkdirAll(filepath.Dir(name), 0o755)
			_ = os.WriteFile(name, bytes.Repeat([]byte{'w'}, 20000+i), 0o644)
		case "mkdir":
			_ = os.MkdirAll(name, 0o755)
		case "remove":
			_ = os.RemoveAll(name)
		case "rename":
			_ = os.Rename(name, to)
		}
	}
	shown, err := read(root)
	if err != nil {
		return err
	}
	if _, err := s.Unmount(ctx, layer.ID, false); err != nil {
		return err
	}
	if err := lists(ctx, s, layer.ID, lower, shown); err != nil {
		return fmt.Errorf("what was written: %w", err)
	}
	var out bytes.Buffer
	if err := s.Diff(ctx, &out, layer.ID, "", store.DiffOptions{}); err != nil {
		return err
	}
	return again(ctx, s, parent, out.Bytes(), shown)
}

// again imports a diff and compares what it shows.
func again(ctx context.Context, s *store.Store, parent string, diff []byte, want tree) error {
	layer, err := s.ImportLayer(ctx, layers.CreateOptions{Parent: parent}, bytes.NewReader(diff), nil)
	if err != nil {
		return fmt.Errorf("its diff, imported again: %w", err)
	}
	defer func() { _ = s.DeleteLayer(ctx, layer.ID, store.DeleteOptions{}) }()
	if err := shows(ctx, s, layer.ID, want); err != nil {
		return fmt.Errorf("its diff, imported again: %w", err)
	}
	return nil
}

func add(ctx context.Context, s *store.Store, parent string, layer []member) (string, error) {
	data, err := pack(layer)
	if err != nil {
		return "", err
	}
	made, err := s.ImportLayer(ctx, layers.CreateOptions{Parent: parent}, io.Reader(bytes.NewReader(data)), nil)
	return made.ID, err
}

// shows compares a mounted layer.
func shows(ctx context.Context, s *store.Store, id string, want tree) error {
	root, err := s.Mount(ctx, id, store.MountOptions{})
	if err != nil {
		return err
	}
	got, err := read(root)
	if _, uerr := s.Unmount(ctx, id, false); err == nil {
		err = uerr
	}
	if err != nil {
		return err
	}
	return compare(want, got)
}

// lists compares the list of changes.
func lists(ctx context.Context, s *store.Store, id string, from, to tree) error {
	changes, err := s.Changes(ctx, id, "")
	if err != nil {
		return err
	}
	kinds := map[diff.ChangeKind][]string{}
	for _, c := range changes {
		kinds[c.Kind] = append(kinds[c.Kind], c.Path)
	}
	for _, list := range kinds {
		slices.Sort(list)
	}
	added, deleted, modified := changed(from, to)
	if !slices.Equal(added, kinds[diff.Added]) {
		return fmt.Errorf("changes: added %v, not %v", kinds[diff.Added], added)
	}
	if !slices.Equal(deleted, kinds[diff.Deleted]) {
		return fmt.Errorf("changes: deleted %v, not %v", kinds[diff.Deleted], deleted)
	}
	for _, p := range modified {
		if !slices.Contains(kinds[diff.Modified], p) {
			return fmt.Errorf("changes: %s isn't listed as modified", p)
		}
	}
	return nil
}
