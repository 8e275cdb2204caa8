package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// populated is a store with a layer, an image and a container, and its driver's name.
func populated(t *testing.T) (*store.Store, string) {
	t.Helper()
	cfg := roots(t)
	s := open(t, cfg)
	ctx := t.Context()
	if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id("layer"), Names: []string{"base"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateImage(ctx, store.ImageOptions{ID: id("image"), Names: []string{"img"},
		TopLayer: "base"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id("box"), Names: []string{"box"},
		Image: "img"}); err != nil {
		t.Fatal(err)
	}
	return s, cfg.GraphRoot
}

// A transaction locks what it is asked for, and nothing else.
func TestTransactionsLockWhatTheyLookAt(t *testing.T) {
	s, root := populated(t)
	lock, err := lockfile.Acquire(t.Context(), filepath.Join(root, "overlay-layers", "layers.lock"), lockfile.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = s.View(ctx, func(tx *store.ReadTx) error {
		_, err := tx.Images()
		_, containersErr := tx.Containers()
		return errors.Join(err, containersErr)
	})
	if err != nil {
		t.Errorf("images and containers while somebody has the layers: %v", err)
	}
	err = s.Update(ctx, func(tx *store.WriteTx) error {
		return tx.SetContainerBigData("box", "key", []byte("data"))
	})
	if err != nil {
		t.Errorf("an item of a container while somebody has the layers: %v", err)
	}
	err = s.View(ctx, func(tx *store.ReadTx) error {
		_, err := tx.Layers()
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("layers while somebody has them: %v", err)
	}
}

// Kinds may be looked at in any order. To be changed, they are asked for in the order of
// their locks, as long as they haven't been looked at.
func TestOrderOfTransactions(t *testing.T) {
	s, _ := populated(t)
	err := s.View(t.Context(), func(tx *store.ReadTx) error {
		container, err := tx.Container("box")
		if err != nil {
			return err
		}
		if _, err := tx.Image(container.ImageID); err != nil {
			return err
		}
		if _, err := tx.Layer(container.LayerID); err != nil {
			return err
		}
		_, err = tx.Container("box")
		return err
	})
	if err != nil {
		t.Errorf("from a container to its layer and back: %v", err)
	}
	err = s.Update(t.Context(), func(tx *store.WriteTx) error {
		container, err := tx.Container("box")
		if err != nil {
			return err
		}
		if err := tx.SetMetadata(container.LayerID, "of a layer"); err != nil {
			return err
		}
		return tx.SetContainerBigData("box", "key", []byte("data"))
	})
	if err != nil {
		t.Errorf("a layer changed and then its container: %v", err)
	}
	err = s.Update(t.Context(), func(tx *store.WriteTx) error {
		if err := tx.SetContainerBigData("box", "key", []byte("other")); err != nil {
			return err
		}
		_, err := tx.Layers()
		return err
	})
	if !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("layers after a changed container: %v", err)
	}
}

// What a function has changed is saved when it returns nil, and dropped when it doesn't;
// the locks are free in any case.
func TestUpdateIsSavedOrDropped(t *testing.T) {
	s, _ := populated(t)
	metadata := func() (texts []string) {
		for _, ref := range []string{id("layer"), id("image"), id("box")} {
			found, err := lookUp(s, ref)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, found.Metadata)
		}
		return texts
	}
	set := func(text string, end func() error) error {
		return s.Update(t.Context(), func(tx *store.WriteTx) error {
			for _, ref := range []string{id("layer"), id("image"), id("box")} {
				if err := tx.SetMetadata(ref, text); err != nil {
					return err
				}
			}
			return end()
		})
	}
	if err := set("one", func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	want := []string{"one", "one", "one"}
	if got := metadata(); !slices.Equal(got, want) {
		t.Errorf("saved %q, want %q", got, want)
	}
	broken := errors.New("broken")
	if err := set("two", func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("the function's error: %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_ = set("three", func() error { panic("three") })
	}()
	if got := metadata(); !slices.Equal(got, want) {
		t.Errorf("after errors there is %q, want %q", got, want)
	}
}

// What is wrong about a container's options is found before a layer is staged, and
// nothing is tried twice.
func TestContainersAreStagedOnce(t *testing.T) {
	s, _ := populated(t)
	staged := 0
	ctx := step.Watch(t.Context(), func(name string) {
		if name == "layer staged" {
			staged++
		}
	})
	_, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "img",
		BigData: []containers.Item{{Key: "", Data: []byte("x")}}})
	if !errors.Is(err, errdefs.ErrInvalid) || staged != 0 {
		t.Errorf("an empty key: %v, after %d layers", err, staged)
	}
	full := errors.New("no space left")
	failing, cancel := context.WithCancelCause(t.Context())
	failing = step.Watch(failing, func(name string) {
		if name == "layer staged" {
			staged++
			cancel(full)
		}
	})
	if _, err := s.CreateContainer(failing, store.ContainerOptions{Image: "img"}); err == nil || staged != 1 {
		t.Errorf("a failure after the staging: %v, after %d layers", err, staged)
	}
	noGarbage(t, s)
}
