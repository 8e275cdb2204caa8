package store_test

import (
	"errors"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// What is mounted isn't deleted, by whatever command, unless that is forced.
func TestMountedIsInUse(t *testing.T) {
	s, _ := populated(t)
	ctx := t.Context()
	if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id("own"), Parent: "base", Writable: true}); err != nil {
		t.Fatal(err)
	}
	mount := func(ref string) string {
		t.Helper()
		path, err := s.Mount(ctx, ref, store.MountOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	box, own := mount("box"), mount(id("own"))
	plain, force := store.DeleteOptions{}, store.DeleteOptions{Force: true}
	for what, deletion := range map[string]func() error{
		"container":     func() error { return s.DeleteContainer(ctx, "box", plain) },
		"layer":         func() error { return s.DeleteLayer(ctx, id("own"), plain) },
		"any container": func() error { return s.Delete(ctx, "box", plain) },
		"any layer":     func() error { return s.Delete(ctx, id("own"), plain) },
		"everything":    func() error { return s.Wipe(ctx, plain) },
	} {
		err := deletion()
		var by errdefs.InUse
		if !errors.As(err, &by) || !errors.Is(err, errdefs.ErrInUse) || by.By != errdefs.Mount {
			t.Errorf("%s: %v", what, err)
		}
	}
	if !isMounted(t, box) || !isMounted(t, own) {
		t.Fatal("unmounted all the same")
	}
	if all, err := allLayers(s); err != nil || len(all) != 3 {
		t.Errorf("%d layers, %v", len(all), err)
	}
	if err := errors.Join(s.DeleteLayer(ctx, id("own"), force), s.DeleteContainer(ctx, "box", force)); err != nil {
		t.Errorf("by force: %v", err)
	}

	// So it is with an image whose layer is mounted.
	if _, err := s.MountImage(ctx, "img", store.MountOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteImage(ctx, "img", store.DeleteOptions{}); !errors.Is(err, errdefs.ErrInUse) {
		t.Errorf("image: %v", err)
	}
	if removed, err := s.DeleteImage(ctx, "img", store.DeleteOptions{Force: true, DryRun: true}); err != nil ||
		len(removed) == 0 {
		t.Errorf("image, dry run by force: %v, %v", removed, err)
	}
	if _, err := s.UnmountImage(ctx, "img", false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteImage(ctx, "img", store.DeleteOptions{}); err != nil {
		t.Errorf("image, unmounted: %v", err)
	}
	noGarbage(t, s)
}
