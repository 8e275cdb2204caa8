package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/mount"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
)

// A layer that a writer left incomplete doesn't exist for readers from that moment, and
// goes with its files when the next writer comes by.
func TestIncompleteLayers(t *testing.T) {
	ctx := context.Background()
	for _, dead := range [][]string{{}, {"a"}, {"c"}, {"a", "b"}, {"a", "c"}, {"a", "b", "c"}} {
		t.Run(fmt.Sprint(dead), func(t *testing.T) {
			cfg := roots(t)
			s := open(t, cfg)
			var ids []string
			for _, word := range []string{"a", "b", "c"} {
				importLayer(t, s, id(word), "", killTar(), word)
				if slices.Contains(dead, word) {
					ids = append(ids, id(word))
				}
			}
			if len(ids) > 0 { // one of the dead is mounted
				if _, err := s.Mount(ctx, ids[0], store.MountOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			markIncomplete(t, cfg, ids...)
			for _, gone := range ids {
				if _, err := findLayer(s, gone); !errors.Is(err, errdefs.ErrNotFound) {
					t.Fatalf("a reader sees an incomplete layer: %v", err)
				}
				if _, err := s.ImportLayer(ctx, layers.CreateOptions{Parent: gone}, untouched{t}, nil); !errors.Is(err,
					errdefs.ErrNotFound) {
					t.Fatalf("a child of an incomplete layer: %v", err)
				}
			}
			all, err := allLayers(s)
			if err != nil || len(all) != 3-len(dead) {
				t.Fatalf("layers %v, %v", all, err)
			}
			if g, err := fsck.Check(ctx, s, fsck.CheckOptions{}); err != nil ||
				len(g.Garbage().Findings) != len(dead) ||
				len(g.Damage().Findings) > 0 {
				t.Fatalf("check: %+v, %v", g, err)
			}
			for _, again := range ids { // the ID is free
				importLayer(t, s, again, "", killTar())
			}
			whole(t, s, []string{id("a"), id("b"), id("c")})
			noGarbage(t, s)
			nothingElse(t, cfg, s)
		})
	}
}

// Mounts are counted for all Stores together, and survive whatever happens to the mount
// itself.
func TestMountCounts(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	a, b := open(t, cfg), open(t, cfg)
	base(t, cfg, a)
	count := func(want int) {
		t.Helper()
		for _, s := range []*store.Store{a, b} {
			if got, err := timesMounted(s, "base"); got != want || err != nil {
				t.Fatalf("count %d, %v; want %d", got, err, want)
			}
		}
	}
	mounted := func(s *store.Store) string {
		t.Helper()
		path, err := s.Mount(ctx, "base", store.MountOptions{})
		if err != nil || !isMounted(t, path) {
			t.Fatalf("mounted at %q: %v", path, err)
		}
		return path
	}
	unmount := func(s *store.Store, force, want bool) {
		t.Helper()
		if still, err := s.Unmount(ctx, "base", force); still != want || err != nil {
			t.Fatalf("unmount: still mounted %v, %v; want %v", still, err, want)
		}
	}
	count(0)
	unmount(a, false, false) // no error
	path := mounted(a)
	mounted(b)
	mounted(b)
	count(3)
	unmount(a, false, true)
	count(2)
	unmount(b, true, false)
	count(0)
	if isMounted(t, path) {
		t.Fatal("still mounted")
	}

	// Someone else unmounts it.
	mounted(a)
	if err := mount.Unmount(path); err != nil {
		t.Fatal(err)
	}
	mounted(b)
	count(2)
	unmount(a, false, true)
	unmount(a, false, false)

	// The mount is there and the counts are lost, as when the run root was removed by
	// hand.
	mounted(a)
	if err := os.RemoveAll(cfg.RunRoot); err != nil {
		t.Fatal(err)
	}
	count(0)
	mounted(a)
	count(1)
	if again, err := testutil.MountsBelow(filepath.Dir(path)); err != nil || len(again) != 1 {
		t.Fatalf("mounts %q, %v", again, err)
	}

	// Shutdown refuses, or unmounts.
	if which, err := b.Shutdown(ctx, false); !errors.Is(err, errdefs.ErrInUse) ||
		!slices.Equal(which, []string{id("base")}) {
		t.Fatalf("shutdown: %v, %v", which, err)
	}
	if which, err := b.Shutdown(ctx, true); err != nil || len(which) != 1 {
		t.Fatalf("shutdown by force: %v, %v", which, err)
	}
	count(0)
	if left, err := testutil.MountsBelow(cfg.GraphRoot); err != nil || len(left) > 0 {
		t.Fatalf("mounts left: %q, %v", left, err)
	}
	mounted(a) // the store goes on
	if err := a.DeleteLayer(ctx, "base", store.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	noGarbage(t, a)
}

// Names belong to one thing of each kind at a time.
func TestNames(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	s := open(t, cfg)
	importLayer(t, s, id("a"), "", killTar(), "one", "two")
	importLayer(t, s, id("b"), "", killTar(), "three")
	for _, word := range []string{"i", "j"} {
		if _, err := s.CreateImage(ctx, store.ImageOptions{ID: id(word),
			Names: []string{word, "x" + word}}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(ref string, want ...string) {
		t.Helper()
		if found, err := lookUp(s, ref); err != nil || !slices.Equal(found.Names, want) {
			t.Fatalf("names of %s: %q, %v; want %q", ref, found.Names, err, want)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(change(s, func(tx *store.WriteTx) error { return tx.AddNames(id("b"), "two", "four", "four") }))
	check(id("a"), "one")
	check(id("b"), "two", "four", "three")
	do(change(s, func(tx *store.WriteTx) error { return tx.SetNames("four", "one") }))
	check(id("a"))
	check("one", "one")
	do(change(s, func(tx *store.WriteTx) error { return tx.RemoveNames("one", "one", "nothing") }))
	check(id("b"))
	do(change(s, func(tx *store.WriteTx) error { return tx.AddNames("i", "new", "xj") }))
	check("i", "new", "xj", "i", "xi")
	check("j", "j")
	if i, err := findImage(s, "i"); err != nil || !slices.Equal(i.NamesHistory, []string{"xi", "i", "xj", "new"}) {
		t.Fatalf("history %q, %v", i.NamesHistory, err)
	}
	// One name can mean a layer and an image; where any will do, the layer is meant.
	do(change(s, func(tx *store.WriteTx) error { return tx.AddNames(id("a"), "i") }))
	if found, err := lookUp(s, "i"); err != nil || found.ID != id("a") || found.Kind != errdefs.Layer {
		t.Fatalf("lookup: %v, %v", found, err)
	}
	if found, err := findImage(s, "i"); err != nil || found.ID != id("i") {
		t.Fatalf("image: %s, %v", found.ID, err)
	}
	if found, err := lookUp(s, id("j")[:4]); err != nil || found.ID != id("j") {
		t.Fatalf("by prefix: %v, %v", found, err)
	}
	if found, err := lookUp(s, "nothing"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatalf("exists: %v, %v", found, err)
	}
}

// Garbage collection doesn't trust a catalog that is damaged, and doesn't take what a
// record still needs.
func TestGarbageCollectionIsCareful(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	s := open(t, cfg)
	base(t, cfg, s)
	importLayer(t, s, id("top"), "base", killTar())
	importLayer(t, s, id("lost"), "", killTar())
	if _, err := s.CreateImage(ctx, store.ImageOptions{TopLayer: id("top")}); err != nil {
		t.Fatal(err)
	}
	exists := func(word string, want bool) {
		t.Helper()
		_, err := os.Stat(filepath.Join(cfg.GraphRoot, "overlay", id(word), "diff"))
		if (err == nil) != want {
			t.Fatalf("layer %s: %v, want %v", word, err, want)
		}
	}
	catalog := filepath.Join(cfg.GraphRoot, "overlay-layers/layers.json")
	good, err := os.ReadFile(catalog)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(catalog, good[:len(good)-10], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fsck.GC(ctx, s, fsck.GCOptions{}); !errors.Is(err, errdefs.ErrCorrupt) {
		t.Fatalf("with a torn catalog: %v", err)
	}
	exists("lost", true)
	if err := os.WriteFile(catalog, []byte("[]"), 0o600); err != nil { // all records lost
		t.Fatal(err)
	}
	if _, err := fsck.GC(ctx, s, fsck.GCOptions{}); !errors.Is(err, errdefs.ErrCorrupt) ||
		!strings.Contains(err.Error(), id("top")) {
		t.Fatalf("with an empty catalog: %v", err)
	}
	exists("top", true)
	exists("lost", false) // nothing names it
	if err := os.WriteFile(catalog, good, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Many goroutines with two Stores of one root: nobody's work is lost, and everyone agrees
// at the end.
func TestManyAtOnce(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	stores := []*store.Store{open(t, cfg), open(t, cfg)}
	base(t, cfg, stores[0])
	image(t, stores[0])
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			s := stores[n%2]
			for round := range 4 {
				word := fmt.Sprint("w", n, "r", round)
				if err := oneLife(ctx, s, word); err != nil {
					t.Errorf("%s: %v", word, err)
					return
				}
			}
		})
	}
	wg.Wait()
	var lists [2][]layers.Layer
	for n, s := range stores {
		all, err := allLayers(s)
		if err != nil {
			t.Fatal(err)
		}
		lists[n] = all
	}
	if len(lists[0]) != 1+8*2 || len(lists[1]) != len(lists[0]) {
		t.Fatalf("%d and %d layers", len(lists[0]), len(lists[1]))
	}
	whole(t, stores[1], nil)
	noGarbage(t, stores[0])
	nothingElse(t, cfg, stores[0])
}

// oneLife imports a layer, runs a container and deletes what it made, except for the
// layers of even rounds.
func oneLife(ctx context.Context, s *store.Store, word string) error {
	tar := killTar()
	l, err := s.ImportLayer(ctx, layers.CreateOptions{ID: id(word), Parent: "base", Names: []string{word}},
		bytes.NewReader(tar), nil)
	if err != nil {
		return err
	}
	c, err := s.CreateContainer(ctx, store.ContainerOptions{Names: []string{"box of " + word}, Image: "img",
		Volatile: strings.HasSuffix(word, "1")})
	if err != nil {
		return err
	}
	path, err := s.Mount(ctx, c.ID, store.MountOptions{})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(path, word), nil, 0o600); err != nil {
		return err
	}
	if err := change(s, func(tx *store.WriteTx) error { return tx.AddNames(l.ID, "also "+word) }); err != nil {
		return err
	}
	changes, err := s.Changes(ctx, c.LayerID, "")
	if err != nil {
		return err
	}
	if len(changes) != 1 || changes[0] != (diff.Change{Path: "/" + word, Kind: diff.Added}) {
		return fmt.Errorf("changes %v", changes)
	}
	if _, err := s.Unmount(ctx, c.ID, false); err != nil {
		return err
	}
	if err := s.DeleteContainer(ctx, "box of "+word, store.DeleteOptions{Force: true}); err != nil {
		return err
	}
	var out bytes.Buffer
	if err := s.Diff(ctx, &out, word, "", store.DiffOptions{}); err != nil {
		return err
	}
	if !bytes.Equal(out.Bytes(), tar) {
		return errors.New("exports other bytes")
	}
	if strings.HasSuffix(word, "1") || strings.HasSuffix(word, "3") {
		return s.DeleteLayer(ctx, "also "+word, store.DeleteOptions{Force: true})
	}
	return nil
}
