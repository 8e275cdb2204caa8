package fsck_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"github.com/shalestore/shale/tests/storetest"
	"golang.org/x/sys/unix"
)

// onRamfs puts the store on a file system that has no extended attributes.
func onRamfs(t *testing.T, cfg *config.Config) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("ramfs", dir, "ramfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	cfg.GraphRoot = filepath.Join(dir, "root")
}

// Check finds nothing wrong with a store that nobody has damaged, whatever its driver,
// its settings and its file system are, while its containers run.
func TestSoundStores(t *testing.T) {
	mask := fs.FileMode(0o700)
	for name, set := range map[string]func(t *testing.T, cfg *config.Config){
		"overlay": func(*testing.T, *config.Config) {},
		"vfs":     func(_ *testing.T, cfg *config.Config) { cfg.Driver = "vfs" },
		"vfs without extended attributes": func(t *testing.T, cfg *config.Config) {
			cfg.Driver = "vfs"
			onRamfs(t, cfg)
		},
		"imagestore": func(_ *testing.T, cfg *config.Config) { cfg.ImageStore = cfg.GraphRoot + "-images" },
		"transient":  func(_ *testing.T, cfg *config.Config) { cfg.TransientStore = true },
		"force_mask": func(_ *testing.T, cfg *config.Config) { cfg.Overlay.ForceMask = &mask },
		"ignore_chown_errors": func(_ *testing.T, cfg *config.Config) {
			cfg.Overlay.IgnoreChownErrors = true
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Root(t)
			ctx := context.Background()
			cfg := roots(t)
			set(t, &cfg)
			s := open(t, cfg)
			importLayer(t, s, id("base"), "", storetest.RichTar(t, "base"), "base")
			importLayer(t, s, id("app"), "base", storetest.RichTar(t, "app"), "app")
			importLayer(t, s, id("copy"), "", storetest.RichTar(t, "base"))
			// Whiteouts of what is beneath, and directories that no entry describes.
			importLayer(t, s, id("top"), "app", layerTar(t, "etc/.wh.twin", "opaque/.wh..wh..opq", "opaque/new",
				"etc/sub/dir/file", "etc/name"), "top")
			if _, err := s.CreateImage(ctx, store.ImageOptions{ID: id("img"), Names: []string{"img"},
				TopLayer: id("top")}); err != nil {
				t.Fatal(err)
			}
			noGarbage(t, s)
			if cfg.Overlay.ForceMask != nil {
				return // its layers can't be written to
			}
			if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id("hand"), Parent: "top",
				Names: []string{"hand"}}); err != nil {
				t.Fatal(err)
			}
			c, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "img", Volatile: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range []string{c.ID, "hand"} {
				path, err := s.Mount(ctx, ref, store.MountOptions{})
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"new", "etc/app", "etc/sub/dir/file"} {
					if err := os.WriteFile(filepath.Join(path, name), []byte("changed"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.RemoveAll(filepath.Join(path, "opaque")); err != nil {
					t.Fatal(err)
				}
			}
			noGarbage(t, s)
			for _, ref := range []string{c.ID, "hand"} {
				if _, err := s.Unmount(ctx, ref, false); err != nil {
					t.Fatal(err)
				}
			}
			// What a commit makes of the container.
			importLayer(t, s, id("commit"), "top", export(t, s, c.LayerID))
			if _, err := s.CreateImage(ctx, store.ImageOptions{TopLayer: id("commit")}); err != nil {
				t.Fatal(err)
			}
			noGarbage(t, s)
			if err := s.DeleteContainer(ctx, c.ID, store.DeleteOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			noGarbage(t, s)
		})
	}
}

// With an image store, what is damaged in it is repaired in it.
func TestDamagesInAnImageStore(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	cfg.ImageStore = cfg.GraphRoot + "-images"
	fill(t, cfg)
	s := open(t, cfg)
	records := filepath.Join(cfg.ImageStore, "overlay-layers/layers.json")
	for name, damage := range map[string]func() error{
		"attribute": func() error {
			return os.Chmod(filepath.Join(cfg.ImageStore, "overlay", id("app"), "diff/etc/twin"), 0o600)
		},
		"records": func() error { return os.Truncate(records, 0) },
		"lists":   func() error { return os.Remove(filepath.Join(cfg.ImageStore, "overlay", id("app"), "lower")) },
		"garbage": func() error {
			return os.MkdirAll(filepath.Join(cfg.ImageStore, "overlay", id("stray"), "diff"),
				0o700)
		},
		"manifests": func() error {
			return os.MkdirAll(filepath.Join(cfg.GraphRoot, "overlay-images", id("stray")),
				0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			noGarbage(t, s)
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
			if err != nil || report.Empty() {
				t.Fatalf("%v, %v", report.Findings, err)
			}
			done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{})
			if err != nil || !done.Left.Empty() {
				t.Fatalf("left %v, %v", done.Left.Findings, err)
			}
			noGarbage(t, s)
			if data, err := os.ReadFile(records); err != nil || !bytes.Contains(data, []byte(id("app"))) {
				t.Errorf("%s, %v", data, err)
			}
		})
	}
}

// The driver of plain copies has damage named in the layer that has it, whether the file
// is its own or one that it has copied.
func TestDamagesWithCopies(t *testing.T) {
	ctx := context.Background()
	for name, damage := range map[string]func(dir string) error{
		"attribute":  func(dir string) error { return os.Chmod(filepath.Join(dir, "etc/twin"), 0o600) },
		"file added": func(dir string) error { return os.WriteFile(filepath.Join(dir, "extra"), nil, 0o600) },
		"inherited file edited": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "etc/base"), []byte("the kontent of base"), 0o600)
		},
		"inherited file removed": func(dir string) error { return os.Remove(filepath.Join(dir, "etc/base")) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := roots(t)
			cfg.Driver = "vfs"
			s := open(t, cfg)
			importLayer(t, s, id("base"), "", storetest.RichTar(t, "base"), "base")
			importLayer(t, s, id("app"), "base", storetest.RichTar(t, "app"), "app")
			before := export(t, s, id("app"))
			if err := damage(filepath.Join(cfg.GraphRoot, "vfs/dir", id("app"))); err != nil {
				t.Fatal(err)
			}
			report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
			if objects := report.Objects(); err != nil || len(objects) != 1 || objects[0].ID != id("app") {
				t.Fatalf("%v, %v", report.Findings, err)
			}
			done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{})
			if err != nil || !done.Left.Empty() {
				t.Fatalf("left %v, %v", done.Left.Findings, err)
			}
			noGarbage(t, s)
			if !bytes.Equal(export(t, s, id("app")), before) {
				t.Fatal("the layer isn't what it was")
			}
		})
	}
}
