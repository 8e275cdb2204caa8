package images_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/naming"
	"github.com/shalestore/shale/internal/testutil"
)

// library is a store with one image, which others only read.
func library(t *testing.T) images.Config {
	cfg := places(t)
	create(t, images.Open(cfg), images.Options{
		ID: id("1"), Names: []string{"lib"}, TopLayer: id("f"), Metadata: "theirs", NamesHistory: []string{"was"},
		Flags: map[string]any{"a": true}, BigData: []images.Item{{Key: "manifest", Data: []byte("{}")},
			{Key: "other", Data: []byte("x")}},
	})
	return cfg
}

// An image of a read-only store is found and can't be changed; a name makes a copy of its
// record, which then hides it.
func TestReadOnlyImages(t *testing.T) {
	lib := library(t)
	before := testutil.Snapshot(t, lib.Dir)
	cfg := places(t)
	cfg.ReadOnly = []string{lib.Dir}
	s := images.Open(cfg)
	if image := get(t, s, "lib"); !image.ReadOnly || s.Home(image) != filepath.Join(lib.Dir, id("1")) {
		t.Errorf("%+v at %s", image, s.Home(image))
	}
	for what, change := range map[string]func(tx *images.WriteTx) error{
		"metadata":    func(tx *images.WriteTx) error { return tx.SetMetadata("lib", "mine") },
		"a data item": func(tx *images.WriteTx) error { return tx.SetBigData("lib", images.Item{Key: "k"}) },
		"deletion":    func(tx *images.WriteTx) error { _, err := tx.Delete(id("1")); return err },
		"a copied layer": func(tx *images.WriteTx) error {
			return tx.AddMappedLayer(id("1"), id("e"))
		},
	} {
		if err := s.Update(context.Background(), change); !errors.Is(err, errdefs.ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	update(t, s, func(tx *images.WriteTx) error { return tx.ChangeNames("lib", []string{"mine"}, naming.Add) })
	image := get(t, s, "mine")
	if image.ReadOnly || image.ID != id("1") || !slices.Equal(image.Names, []string{"mine", "lib"}) ||
		image.Metadata != "theirs" || image.Flags["a"] != true || len(image.BigDataNames) != 2 {
		t.Errorf("the copy: %+v", image)
	}
	view(t, s, func(tx *images.ReadTx) error {
		if data, err := tx.BigData("mine", "other"); err != nil || string(data) != "x" {
			t.Errorf("the copy's item: %q, %v", data, err)
		}
		return nil
	})
	update(t, s, func(tx *images.WriteTx) error { return tx.ChangeNames("mine", []string{"lib"}, naming.Remove) })
	view(t, s, func(tx *images.ReadTx) error {
		if found, err := tx.Lookup("lib"); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("a name that was taken away shows the hidden image: %+v, %v", found, err)
		}
		return nil
	})
	if after := testutil.Snapshot(t, lib.Dir); len(after) != len(before) {
		t.Errorf("the other store was changed: %v, before %v", after, before)
	}
}

// With an image store new images go there, and those of the graph root stay where they
// are, changeable.
func TestImageStoreAndGraphRoot(t *testing.T) {
	graph := places(t)
	create(t, images.Open(graph), images.Options{ID: id("a"), Names: []string{"old"},
		BigData: []images.Item{{Key: "k", Data: []byte("x")}}})
	cfg := places(t)
	cfg.GraphDir, cfg.RunDir = graph.Dir, graph.RunDir
	s := images.Open(cfg)
	create(t, s, images.Options{ID: id("b"), Names: []string{"new"}})
	update(t, s, func(tx *images.WriteTx) error { return tx.ChangeNames("new", []string{"old"}, naming.Add) })
	update(t, s, func(tx *images.WriteTx) error {
		return tx.SetBigData(id("a"), images.Item{Key: "k", Data: []byte("longer")})
	})
	if old, alone := get(t, s, id("a")), get(t, images.Open(graph), id("a")); len(old.Names) != 0 ||
		len(alone.Names) != 0 || alone.BigDataSizes["k"] != 6 || old.ReadOnly {
		t.Errorf("the graph root's image: %+v, for who has no image store: %+v", old, alone)
	}
	view(t, images.Open(graph), func(tx *images.ReadTx) error {
		if _, err := tx.Get(id("b")); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("the new image is in the graph root: %v", err)
		}
		return nil
	})
	update(t, s, func(tx *images.WriteTx) error {
		dirs, err := tx.Delete(id("a"))
		if want := filepath.Join(graph.Dir, id("a")); err == nil && dirs[0] != want {
			t.Errorf("its directory: %s, want %s", dirs[0], want)
		}
		return err
	})
}
