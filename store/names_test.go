package store_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// A name that is empty, that breaks a line or that isn't UTF-8 is refused wherever names
// are given.
func TestNamesThatAreNone(t *testing.T) {
	s, _ := populated(t)
	ctx := t.Context()
	for _, name := range []string{"", "two\nlines", "\x1b[31m", "\xff\xfe"} {
		names := []string{"good", name}
		for what, give := range map[string]func() error{
			"layer": func() error {
				_, err := s.CreateLayer(ctx, layers.CreateOptions{Names: names})
				return err
			},
			"import": func() error {
				_, err := s.ImportLayer(ctx, layers.CreateOptions{Names: names}, bytes.NewReader(layerTar(t, "f")), nil)
				return err
			},
			"image": func() error {
				_, err := s.CreateImage(ctx, store.ImageOptions{Names: names})
				return err
			},
			"container": func() error {
				_, err := s.CreateContainer(ctx, store.ContainerOptions{Names: names})
				return err
			},
			"added": func() error {
				return change(s, func(tx *store.WriteTx) error { return tx.AddNames(id("layer"), names...) })
			},
			"set": func() error {
				return change(s, func(tx *store.WriteTx) error { return tx.SetNames(id("box"), names...) })
			},
		} {
			if err := give(); !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("%q, %s: %v", name, what, err)
			}
		}
		if err := change(s, func(tx *store.WriteTx) error { return tx.RemoveNames(id("image"), name) }); err != nil {
			t.Errorf("taken away, %q: %v", name, err)
		}
	}
	noGarbage(t, s)
}

// Who finds a name or an ID taken is told by whom, and a layer that came as no tar is
// measured.
func TestWhoHasTheName(t *testing.T) {
	s, _ := populated(t)
	ctx := t.Context()
	for what, opts := range map[string]layers.CreateOptions{"name": {Names: []string{"base"}},
		"ID": {ID: id("layer")}} {
		holder, err := s.CreateLayer(ctx, opts)
		if err == nil || holder.ID != id("layer") {
			t.Errorf("a taken %s: layer %q, %v", what, holder.ID, err)
		}
	}
	if size, err := s.Size(ctx, errdefs.Layer, "base"); err != nil || size != 0 {
		t.Errorf("size of an empty layer: %d, %v", size, err)
	}
}

// A container's changes become a layer on what it lies on. Where they can't, the
// container and everything else stay as they were.
func TestCommit(t *testing.T) {
	s, _ := populated(t)
	ctx := t.Context()
	if _, err := s.ApplyDiff(ctx, findLayerOf(t, s, "box"), bytes.NewReader(layerTar(t, "d/", "d/f")),
		nil); err != nil {
		t.Fatal(err)
	}
	made, err := s.Commit(ctx, "box", layers.CreateOptions{Names: []string{"step"}})
	if err != nil || made.Parent != id("layer") || made.DiffID == "" {
		t.Fatalf("%+v, %v", made, err)
	}
	changes, err := s.Changes(ctx, "step", "")
	if err != nil || len(changes) != 2 || changes[1].Path != "/d/f" {
		t.Errorf("changes %v, %v", changes, err)
	}
	again, err := s.Commit(ctx, "box", layers.CreateOptions{Names: []string{"step"}})
	if !errors.Is(err, errdefs.ErrDuplicateName) || again.ID != made.ID {
		t.Errorf("once more: layer %q, %v", again.ID, err)
	}
	if _, err := s.Commit(ctx, "nobody", layers.CreateOptions{}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("of no container: %v", err)
	}
	noGarbage(t, s)
}

// findLayerOf returns the ID of a container's layer.
func findLayerOf(t *testing.T, s *store.Store, container string) string {
	t.Helper()
	found, err := findContainer(s, container)
	if err != nil {
		t.Fatal(err)
	}
	return found.LayerID
}
