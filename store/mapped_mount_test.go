package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

// A layer and an image can be looked at with the owners that they have in a container,
// without one; the layer's own files are translated like those beneath.
func TestMountWithAnIDMap(t *testing.T) {
	testutil.HostRoot(t)
	ctx, cfg := t.Context(), roots(t)
	cfg.Driver = "overlay"
	s := open(t, cfg)
	importLayer(t, s, id("base"), "", layerTar(t, "low"))
	importLayer(t, s, id("top"), id("base"), layerTar(t, "high"))
	if _, err := s.CreateImage(ctx, store.ImageOptions{ID: id("img"), Names: []string{"img"},
		TopLayer: id("top")}); err != nil {
		t.Fatal(err)
	}
	for name, mount := range map[string]func(store.MountOptions) (string, error){
		"layer": func(o store.MountOptions) (string, error) { return s.Mount(ctx, id("top"), o) },
		"image": func(o store.MountOptions) (string, error) { return s.MountImage(ctx, "img", o) },
	} {
		t.Run(name, func(t *testing.T) {
			at, err := mount(store.MountOptions{IDMap: shifted(100000)})
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"low", "high"} {
				var st unix.Stat_t
				if err := unix.Lstat(filepath.Join(at, file), &st); err != nil || st.Uid != 100000 {
					t.Errorf("%s belongs to %d: %v", file, st.Uid, err)
				}
			}
			if err := os.WriteFile(filepath.Join(at, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("a write: %v", err)
			}
			if _, err := mount(store.MountOptions{IDMap: shifted(200000)}); !errors.Is(err, errdefs.ErrBusy) {
				t.Errorf("with another map at the same time: %v", err)
			}
			if still, err := s.Unmount(ctx, id("top"), false); still || err != nil {
				t.Errorf("unmount: still mounted %t, %v", still, err)
			}
		})
	}

	c, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "img", IDMap: shifted(100000)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mount(ctx, c.ID, store.MountOptions{IDMap: shifted(200000)}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a container with another map than its own: %v", err)
	}
	if _, err := s.Mount(ctx, c.ID, store.MountOptions{IDMap: shifted(100000)}); err != nil {
		t.Errorf("a container with its own: %v", err)
	}
	if _, err := s.Unmount(ctx, c.ID, false); err != nil {
		t.Fatal(err)
	}

	refused := func(what string, cfg config.Config) {
		t.Helper()
		if _, err := open(t, cfg).Mount(ctx, id("top"), store.MountOptions{IDMap: shifted(300000)}); !errors.Is(err,
			errdefs.ErrUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	onDisk := cfg
	onDisk.Overlay.DisableIDMap = true
	refused("where the kernel isn't to translate", onDisk)
	if _, err := open(t, onDisk).CreateLayer(ctx, layers.CreateOptions{ID: id("mapped"), Parent: id("top"),
		IDMap: shifted(100000)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mount(ctx, id("mapped"), store.MountOptions{IDMap: shifted(200000)}); !errors.Is(err,
		errdefs.ErrUnsupported) {
		t.Errorf("what is translated on disk: %v", err)
	}
	copies := roots(t)
	copies.Driver = "vfs"
	importLayer(t, open(t, copies), id("top"), "", layerTar(t, "high"))
	refused("with vfs", copies)
	noGarbage(t, s)
}
