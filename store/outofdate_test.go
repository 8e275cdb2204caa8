package store_test

import (
	"errors"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// What a store remembers of images and containers is out of date when another process has
// changed everything meanwhile: it is never what anything is made of.
func TestWhatIsRememberedMayBeOutOfDate(t *testing.T) {
	ctx := t.Context()
	cfg := roots(t)
	here, there := open(t, cfg), open(t, cfg)
	layer := func(name string) {
		t.Helper()
		if _, err := there.CreateLayer(ctx, layers.CreateOptions{ID: id(name)}); err != nil {
			t.Fatal(err)
		}
	}
	image := func(image, name, top string) {
		t.Helper()
		if _, err := there.CreateImage(ctx, store.ImageOptions{ID: id(image), Names: []string{name},
			TopLayer: id(top)}); err != nil {
			t.Fatal(err)
		}
	}
	layer("one")
	layer("two")
	image("old", "img", "one")
	container, err := here.CreateContainer(ctx, store.ContainerOptions{Image: "img"})
	if err != nil || container.ImageID != id("old") {
		t.Fatalf("container of image %s, %v", container.ImageID, err)
	}

	// The name belongs to another image now.
	if err := change(there, func(tx *store.WriteTx) error { return tx.RemoveNames(id("old"), "img") }); err != nil {
		t.Fatal(err)
	}
	image("new", "img", "two")
	second, err := here.CreateContainer(ctx, store.ContainerOptions{Image: "img"})
	if err != nil || second.ImageID != id("new") {
		t.Fatalf("container of image %s, %v", second.ImageID, err)
	}
	if l, err := findLayer(here, second.LayerID); err != nil || l.Parent != id("two") {
		t.Fatalf("on layer %s, %v", l.Parent, err)
	}

	// A container is gone, and another has its ID.
	if err := there.DeleteContainer(ctx, container.ID, store.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Mount(ctx, container.ID, store.MountOptions{}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatalf("mount of a container that is gone: %v", err)
	}
	again, err := there.CreateContainer(ctx, store.ContainerOptions{ID: container.ID, Image: "img"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := here.Mount(ctx, container.ID, store.MountOptions{}); err != nil {
		t.Fatal(err)
	}
	if n, err := timesMounted(there, again.LayerID); err != nil || n != 1 {
		t.Fatalf("the new container's layer has %d mounts, %v", n, err)
	}
	if still, err := here.Unmount(ctx, container.ID, false); err != nil || still {
		t.Fatalf("still mounted: %v, %v", still, err)
	}

	// The image is gone.
	for _, c := range []string{again.ID, second.ID} {
		if err := there.DeleteContainer(ctx, c, store.DeleteOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := there.DeleteImage(ctx, "img", store.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := here.CreateContainer(ctx, store.ContainerOptions{Image: "img"}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatalf("container of an image that is gone: %v", err)
	}
	if err := errors.Join(here.Wait(ctx), there.Wait(ctx)); err != nil {
		t.Fatal(err)
	}
	noGarbage(t, here)
}
