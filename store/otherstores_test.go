package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

// libraryWith is a store with an image "lib" of two layers that someone else has made,
// and which can only be read: its file system is mounted so.
func libraryWith(t *testing.T, driver string, maker func(cfg config.Config) hand) string {
	t.Helper()
	cfg := roots(t)
	cfg.Driver = driver
	h := maker(cfg)
	tars := t.TempDir()
	base, top := filepath.Join(tars, "base"), filepath.Join(tars, "top")
	for path, data := range map[string][]byte{base: layerTar(t, "etc/", "etc/hosts", "etc/passwd"),
		top: layerTar(t, "etc/", "etc/.wh.hosts", "new")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.importLayer(id("base"), "", base, "libbase")
	h.importLayer(id("top"), id("base"), top)
	h.createImage(id("lib"), id("top"), "of the library", "lib", "other name")
	h.setData("image", id("lib"), "manifest", `{"schemaVersion":2}`)
	mount := filepath.Dir(cfg.GraphRoot)
	testutil.UnmountBelow(mount)
	if err := unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return cfg.GraphRoot
}

// An image and a layer of a store that can only be read can be looked at, as they are and
// with an ID map, and unmounted as any other; nothing appears there.
func TestMountOfAnotherStoresImage(t *testing.T) {
	ctx := t.Context()
	library := libraryWith(t, "overlay", func(cfg config.Config) hand { return shaleHand{t, open(t, cfg)} })
	cfg := roots(t)
	cfg.Driver, cfg.AdditionalImageStores = "overlay", []string{library}
	s := open(t, cfg)
	before := testutil.Snapshot(t, library)
	type way struct {
		name string
		opts store.MountOptions
		uid  uint32
	}
	var own unix.Stat_t
	if err := unix.Stat(filepath.Join(library, "overlay", id("base"), "diff/etc/passwd"), &own); err != nil {
		t.Fatal(err)
	}
	owner := own.Uid
	host, err := idtools.EveryIDMapped()
	if err != nil || host && owner != 2 {
		t.Fatalf("etc/passwd belongs to %d in the library (%v)", owner, err)
	}
	ways := []way{{"lib", store.MountOptions{ReadOnly: true}, owner},
		{"libbase", store.MountOptions{ReadOnly: true}, owner}}
	if !testutil.InUserNS(t) && host {
		ways = append(ways, way{"lib", store.MountOptions{ReadOnly: true, IDMap: shifted(100000)}, 100002})
	}
	for _, w := range ways {
		mount, unmount := s.MountImage, s.UnmountImage
		if w.name != "lib" {
			mount, unmount = s.Mount, s.Unmount
		}
		at, err := mount(ctx, w.name, w.opts)
		if err != nil {
			t.Fatalf("%+v: %v", w, err)
		}
		if again, err := mount(ctx, w.name, store.MountOptions{ReadOnly: true}); err != nil || again != at {
			t.Errorf("a second time: %s, %v", again, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(at+"/etc/passwd", &st); err != nil || st.Uid != w.uid {
			t.Errorf("%+v: etc/passwd belongs to %d, %v", w, st.Uid, err)
		}
		if err := os.WriteFile(at+"/new", nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("a write: %v", err)
		}
		for n := range 2 {
			if still, err := unmount(ctx, w.name, false); err != nil || still != (n == 0) {
				t.Errorf("unmount %d: %t, %v", n, still, err)
			}
		}
		if _, err := os.Lstat(at); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", at, err)
		}
	}
	if _, err := s.Mount(ctx, "libbase", store.MountOptions{}); !errors.Is(err, errdefs.ErrReadOnly) {
		t.Errorf("to write: %v", err)
	}
	testutil.SameTree(t, before, testutil.Snapshot(t, library))
}

// A store that can only be read gives layers to build upon and images to run, whoever
// made it; nothing of it is written, and what can't be done says so.
func TestReadOnlyStore(t *testing.T) {
	for _, maker := range []string{"shale", "peer"} {
		for _, driver := range []string{"overlay", "vfs"} {
			t.Run(maker+" "+driver, func(t *testing.T) {
				library := libraryWith(t, driver, func(cfg config.Config) hand {
					if maker == "peer" {
						return peerHand{t, testutil.Peer(t), cfg}
					}
					return shaleHand{t, open(t, cfg)}
				})
				cfg := roots(t)
				cfg.Driver, cfg.AdditionalImageStores = driver, []string{library}
				useLibrary(t, cfg)
			})
		}
	}
}

func useLibrary(t *testing.T, cfg config.Config) {
	ctx := context.Background()
	s := open(t, cfg)
	image, err := findImage(s, "lib")
	if err != nil || !image.ReadOnly || image.ID != id("lib") {
		t.Fatalf("image %+v, %v", image, err)
	}
	if data, err := imageData(s, "lib", "manifest"); err != nil || string(data) != `{"schemaVersion":2}` {
		t.Errorf("data item %q, %v", data, err)
	}
	if size, err := s.Size(ctx, errdefs.Image, "lib"); err != nil || size == 0 {
		t.Errorf("size %d, %v", size, err)
	}
	if layer, err := findLayer(s, "libbase"); err != nil || !layer.ReadOnly {
		t.Errorf("layer %+v, %v", layer, err)
	}
	if !bytes.Equal(export(t, s, id("top")), layerTar(t, "etc/", "etc/.wh.hosts", "new")) {
		t.Error("a layer of the library is exported as another tar")
	}
	if changes, err := s.Changes(ctx, id("top"), ""); err != nil || len(changes) != 3 {
		t.Errorf("changes %v, %v", changes, err)
	}

	// A container, and a layer, on the library's image.
	c, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "lib", Names: []string{"run"}})
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.Mount(ctx, "run", store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "/etc/hosts"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the whiteout in the library has no effect: %v", err)
	}
	for _, file := range []string{"/etc/passwd", "/own"} {
		if err := os.WriteFile(path+file, []byte("changed"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Unmount(ctx, "run", false); err != nil {
		t.Fatal(err)
	}
	changes, err := s.Changes(ctx, c.LayerID, "")
	if err != nil || len(changes) < 2 {
		t.Errorf("changes of the container: %v, %v", changes, err)
	}
	importLayer(t, s, id("own"), id("top"), layerTar(t, "mine"))

	if _, err := s.MountImage(ctx, "lib", store.MountOptions{}); err != nil { // which is read-only
		t.Errorf("mount image: %v", err)
	}
	if still, err := s.UnmountImage(ctx, "lib", false); still || err != nil {
		t.Errorf("unmount image: %t, %v", still, err)
	}

	// What would change the library.
	for what, do := range map[string]func() error{
		"mount":        func() error { _, err := s.Mount(ctx, id("top"), store.MountOptions{}); return err },
		"delete layer": func() error { return s.DeleteLayer(ctx, id("base"), store.DeleteOptions{Force: true}) },
		"apply": func() error {
			_, err := s.ApplyDiff(ctx, id("top"), bytes.NewReader(layerTar(t, "x")), nil)
			return err
		},
		"layer names": func() error {
			return change(s,
				func(tx *store.WriteTx) error { return tx.AddNames(id("top"), "x") })
		},
		"metadata": func() error {
			return change(s, func(tx *store.WriteTx) error { return tx.SetMetadata(id("lib"), "x") })
		},
		"set item": func() error {
			return change(s, func(tx *store.WriteTx) error { return tx.SetImageBigData("lib", "key", nil, "") })
		},
	} {
		if err := do(); !errors.Is(err, errdefs.ErrReadOnly) &&
			!(what == "delete layer" && errors.Is(err, errdefs.ErrInUse)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.DeleteContainer(ctx, c.ID, store.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteImage(ctx, "lib", store.DeleteOptions{}); !errors.Is(err, errdefs.ErrReadOnly) {
		t.Errorf("delete image: %v", err)
	}

	// New names make the image the store's own.
	if err := change(s, func(tx *store.WriteTx) error { return tx.RemoveNames("lib", "lib") }); err != nil {
		t.Fatal(err)
	}
	if _, err := findImage(s, "lib"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a name that was taken away is found: %v", err)
	}
	image, err = findImage(s, "other name")
	if err != nil || image.ReadOnly || image.Metadata != "of the library" ||
		!slices.Equal(image.BigDataNames, []string{"manifest"}) {
		t.Errorf("after a change of names: %+v, %v", image, err)
	}
	if removed, err := s.DeleteImage(ctx, "other name", store.DeleteOptions{}); err != nil || len(removed) != 0 {
		t.Errorf("removed layers %v, %v", removed, err)
	}
	if image, err := findImage(s, "lib"); err != nil || !image.ReadOnly {
		t.Errorf("behind the deleted image: %+v, %v", image, err)
	}
	if _, err := s.CreateImage(ctx, store.ImageOptions{ID: id("lib"), Names: []string{"more"},
		TopLayer: id("top")}); err != nil {
		t.Fatal(err)
	}
	if found, err := lookUp(s, "more"); err != nil ||
		!slices.Equal(found.Names, []string{"more", "lib", "other name"}) {
		t.Errorf("names %v, %v", found.Names, err)
	}
	if err := s.DeleteLayer(ctx, id("own"), store.DeleteOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if err := s.Wipe(ctx, store.DeleteOptions{}); err != nil {
		t.Errorf("wipe: %v", err)
	}
	if image, err := findImage(s, "lib"); err != nil || !image.ReadOnly {
		t.Errorf("after a wipe: %+v, %v", image, err)
	}
}

// A container with an ID map sees the owners of a read-only store's layers translated, by
// the kernel or in a copy of its own.
func TestMappedContainerOnReadOnlyStore(t *testing.T) {
	if testutil.SingleID() {
		t.Skip("needs more than one ID")
	}
	library := libraryWith(t, "overlay", func(cfg config.Config) hand { return shaleHand{t, open(t, cfg)} })
	for _, disabled := range []bool{false, true} {
		cfg := roots(t)
		cfg.AdditionalImageStores, cfg.Overlay.DisableIDMap = []string{library}, disabled
		s := open(t, cfg)
		ctx := context.Background()
		maps := []idtools.Map{{ContainerID: 0, HostID: 100000, Size: 1000}}
		c, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "lib",
			IDMap: idtools.Mapping{UIDs: maps, GIDs: maps}})
		if err != nil {
			t.Fatal(err)
		}
		path, err := s.Mount(ctx, c.ID, store.MountOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(path+"/etc/passwd", &st); err != nil || st.Uid != 100002 || st.Gid != 100004 {
			t.Errorf("disabled %v: owner %d:%d, %v", disabled, st.Uid, st.Gid, err)
		}
		if _, err := s.Unmount(ctx, c.ID, false); err != nil {
			t.Fatal(err)
		}
		if all, err := allLayers(s); err != nil || len(all) != 3 {
			t.Errorf("disabled %v: %d layers, want the library's and the container's: %v", disabled, len(all), err)
		}
	}
}

// With an image store, images and their layers go there and containers into the graph
// root, and the peer sees both alike.
func TestImageStore(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			ctx := context.Background()
			cfg := roots(t)
			cfg.Driver = driver
			old := open(t, cfg)
			importLayer(t, old, id("old"), "", layerTar(t, "old"))
			if _, err := old.CreateImage(ctx, store.ImageOptions{ID: id("oldimage"), Names: []string{"old"},
				TopLayer: id("old")}); err != nil {
				t.Fatal(err)
			}
			split := cfg
			split.ImageStore = filepath.Join(filepath.Dir(cfg.GraphRoot), "images")
			s := open(t, split)
			importLayer(t, s, id("new"), id("old"), layerTar(t, "new"))
			if _, err := s.CreateImage(ctx, store.ImageOptions{ID: id("newimage"), Names: []string{"new"},
				TopLayer: id("new")}); err != nil {
				t.Fatal(err)
			}
			c, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "new"})
			if err != nil {
				t.Fatal(err)
			}
			path, err := s.Mount(ctx, c.ID, store.MountOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"old", "new"} {
				if _, err := os.Stat(filepath.Join(path, file)); err != nil {
					t.Error(err)
				}
			}
			if _, err := s.Unmount(ctx, c.ID, false); err != nil {
				t.Fatal(err)
			}
			theirs := peerHand{t, testutil.Peer(t), split}
			if got := theirs.layers(); len(got) != 3 {
				t.Errorf("the peer lists %v", got)
			}
			dir := "/" + driver + "/"
			if driver == "vfs" {
				dir += "dir/"
			}
			for layer, root := range map[string]string{id("old"): cfg.GraphRoot, id("new"): split.ImageStore,
				c.LayerID: cfg.GraphRoot} {
				if _, err := os.Stat(root + dir + layer); err != nil {
					t.Error(err)
				}
			}
			theirs.deleteContainer(c.ID)
			noGarbage(t, s)

			// An image of the graph root is the store's own as well.
			if err := change(s, func(tx *store.WriteTx) error { return tx.AddNames("old", "older") }); err != nil {
				t.Fatal(err)
			}
			if _, err := s.DeleteImage(ctx, "new", store.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.DeleteImage(ctx, "older", store.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if all, err := allLayers(s); err != nil || len(all) != 0 {
				t.Errorf("left: %v, %v", all, err)
			}
			if got := theirs.layers(); len(got) != 0 {
				t.Errorf("the peer still lists %v", got)
			}
		})
	}
}

// A store that names itself as an additional one doesn't wait for itself, and one that
// isn't there is refused.
func TestOtherStoresThatAreNone(t *testing.T) {
	cfg := roots(t)
	if err := os.MkdirAll(cfg.GraphRoot, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg.AdditionalImageStores = []string{cfg.GraphRoot, t.TempDir(), cfg.GraphRoot + "/."}
	s := open(t, cfg)
	if _, err := s.CreateLayer(context.Background(), layers.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if all, err := allLayers(s); err != nil || len(all) != 1 {
		t.Errorf("%d layers, %v", len(all), err)
	}
	for _, root := range []string{"relative", "/no/such/store", "/proc/version"} {
		cfg.AdditionalImageStores = []string{root}
		if _, err := store.Open(context.Background(), cfg); err == nil {
			t.Errorf("%s is accepted", root)
		}
	}
}
