package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"golang.org/x/sys/unix"
)

// A layer goes in, an image and a container stand on it, files change through the mount,
// the change goes out and into another layer, and everything is deleted again.
func TestFromTarToMountAndBack(t *testing.T) { fromTarToMountAndBack(t) }

// The same as root of a user namespace, where overlay keeps its marks in user.*
// attributes.
func TestFromTarToMountAndBackInUserNamespace(t *testing.T) {
	if testutil.InUserNS(t) {
		fromTarToMountAndBack(t)
	}
}

func fromTarToMountAndBack(t *testing.T) {
	ctx := context.Background()
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			cfg := roots(t)
			cfg.Driver = driver
			s := open(t, cfg)
			base := layerTar(t, "etc/", "etc/hosts", "bin/", "bin/sh")
			importLayer(t, s, id("base"), "", base, "base")
			if !bytes.Equal(export(t, s, "base"), base) {
				t.Fatal("the base doesn't export as the bytes it came with")
			}
			if _, err := s.CreateImage(ctx, store.ImageOptions{ID: id("image"), Names: []string{"img"},
				TopLayer: "base"}); err != nil {
				t.Fatal(err)
			}
			c, err := s.CreateContainer(ctx, store.ContainerOptions{Names: []string{"box"}, Image: "img"})
			if err != nil {
				t.Fatal(err)
			}
			path, err := s.Mount(ctx, "box", store.MountOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string]string{"etc/hosts": "changed", "new": "new"} {
				if err := os.WriteFile(filepath.Join(path, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Remove(filepath.Join(path, "bin/sh")); err != nil {
				t.Fatal(err)
			}
			changes, err := s.Changes(ctx, c.LayerID, "")
			want := []diff.Change{{Path: "/bin", Kind: diff.Modified}, {Path: "/bin/sh", Kind: diff.Deleted},
				{Path: "/etc/hosts", Kind: diff.Modified}, {Path: "/new", Kind: diff.Added}}
			// comparing trees lists a directory with changes in it, even if it hasn't
			// changed itself
			if driver == "vfs" {
				want = slices.Insert(want, 2, diff.Change{Path: "/etc", Kind: diff.Modified})
			}
			if err != nil || !slices.Equal(changes, want) {
				t.Fatalf("changes %v, %v", changes, err)
			}
			diff := export(t, s, c.LayerID)
			if still, err := s.Unmount(ctx, "box", false); still || err != nil {
				t.Fatalf("unmount: %v, %v", still, err)
			}
			copied, err := s.CreateLayer(ctx, layers.CreateOptions{Parent: "base"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.ApplyDiff(ctx, copied.ID, bytes.NewReader(diff), nil); err != nil {
				t.Fatal(err)
			}
			if native, err := s.DiffSize(ctx, copied.ID, ""); err != nil || native < int64(len("changed")+len("new")) {
				t.Fatalf("diff size %d, %v", native, err)
			}
			if path, err = s.Mount(ctx, copied.ID, store.MountOptions{}); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(path, "etc/hosts")); string(got) != "changed" {
				t.Fatalf("the copy has %q, %v", got, err)
			}
			if _, err := os.Lstat(filepath.Join(path, "bin/sh")); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("the copy still has bin/sh: %v", err)
			}
			if err := s.DeleteLayer(ctx, copied.ID, store.DeleteOptions{Force: true}); err != nil { // unmounts it
				t.Fatal(err)
			}
			if _, err := s.DeleteImage(ctx, "img", store.DeleteOptions{}); !errors.Is(err, errdefs.ErrInUse) {
				t.Fatalf("an image in use was deleted: %v", err)
			}
			if err := s.DeleteContainer(ctx, "box", store.DeleteOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			gone, err := s.DeleteImage(ctx, "img", plainly)
			if err != nil || !slices.Equal(gone, []string{id("base")}) {
				t.Fatalf("delete image: %v, %v", gone, err)
			}
			if left, err := allLayers(s); len(left) > 0 || err != nil {
				t.Fatalf("layers left: %v, %v", left, err)
			}
			noGarbage(t, s)
		})
	}
}

// A layer can be compared with any other: with its grandparent, with one that it has
// nothing to do with. The driver's own directories don't tell that; both are mounted
// aside for it, and nothing of that stays.
func TestCompareWithAnyLayer(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	s := open(t, cfg)
	importLayer(t, s, id("a"), "", layerTar(t, "one", "two"), "a")
	importLayer(t, s, id("b"), "a", layerTar(t, "three"), "b")
	importLayer(t, s, id("c"), "b", layerTar(t, ".wh.one", "four"), "c")
	importLayer(t, s, id("other"), "", layerTar(t, "two"), "other")
	for _, try := range []struct {
		to, from string
		want     []diff.Change
	}{
		{"c", "", []diff.Change{{Path: "/four", Kind: diff.Added}, {Path: "/one", Kind: diff.Deleted}}},
		{"c", "a", []diff.Change{{Path: "/four", Kind: diff.Added}, {Path: "/one", Kind: diff.Deleted},
			{Path: "/three", Kind: diff.Added}}},
		{"a", "c", []diff.Change{{Path: "/four", Kind: diff.Deleted}, {Path: "/one", Kind: diff.Added},
			{Path: "/three", Kind: diff.Deleted}}},
		{"a", "a", nil},
	} {
		got, err := s.Changes(ctx, try.to, try.from)
		slices.SortFunc(got, func(a, b diff.Change) int { return strings.Compare(a.Path, b.Path) })
		if err != nil || !slices.Equal(got, try.want) {
			t.Errorf("changes from %q to %q: %v, %v; want %v", try.from, try.to, got, err, try.want)
		}
		var out bytes.Buffer
		if err := s.Diff(ctx, &out, try.to, try.from, store.DiffOptions{}); err != nil {
			t.Errorf("diff from %q to %q: %v", try.from, try.to, err)
		}
	}
	// What the diff says, applied to the one layer, makes the other.
	var out bytes.Buffer
	if err := s.Diff(ctx, &out, "c", "a", store.DiffOptions{}); err != nil {
		t.Fatal(err)
	}
	importLayer(t, s, id("again"), "a", out.Bytes())
	if changes, err := s.Changes(ctx, id("again"), "c"); err != nil || len(changes) > 0 {
		t.Fatalf("differs by %v, %v", changes, err)
	}
	home := []string{filepath.Join(cfg.GraphRoot, "overlay")}
	if left, err := testutil.MountsBelow(cfg.GraphRoot); err != nil || !slices.Equal(left, home) {
		t.Fatalf("mounted: %q, want %q: %v", left, home, err)
	}
	noGarbage(t, s)
}

// With a transient store, containers and what they stand on in the run root go with it;
// images stay.
func TestTransientStore(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	cfg.TransientStore = true
	s := open(t, cfg)
	base(t, cfg, s)
	image(t, s)
	c, err := s.CreateContainer(ctx, store.ContainerOptions{Names: []string{"box"}, Image: "img"})
	if err != nil || !c.Volatile() {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := os.RemoveAll(cfg.RunRoot); err != nil { // a reboot
		t.Fatal(err)
	}
	s = open(t, cfg)
	if all, err := allContainers(s); err != nil || len(all) > 0 {
		t.Fatalf("containers %v, %v", all, err)
	}
	if all, err := allLayers(s); err != nil || len(all) != 1 {
		t.Fatalf("layers %v, %v", all, err)
	}
	if g, err := fsck.GC(ctx, s, fsck.GCOptions{}); err != nil ||
		!slices.Equal(g.Objects(), []fsck.Object{{Kind: fsck.KindLayer, ID: c.LayerID}}) {
		t.Fatalf("garbage %+v, %v", g, err)
	}
	noGarbage(t, s)
}

// A mapped layer's files have the host's owners, and its tar the archive's; a container
// with the same map stands on it.
func TestMappedLayer(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	s := open(t, cfg)
	foreign := idtools.Mapping{UIDs: []idtools.Map{{HostID: 100000, Size: 1000}},
		GIDs: []idtools.Map{{HostID: 200000, Size: 1000}}}
	tar := layerTar(t, "a/", "a/b", "c")
	opts := layers.CreateOptions{ID: id("mapped"), IDMap: foreign}
	if _, err := s.ImportLayer(ctx, opts, bytes.NewReader(tar), nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(export(t, s, id("mapped")), tar) {
		t.Fatal("exports other bytes")
	}
	if _, err := s.CreateImage(ctx, store.ImageOptions{Names: []string{"img"}, TopLayer: id("mapped")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateContainer(ctx, store.ContainerOptions{Names: []string{"box"}, Image: "img",
		IDMap: foreign}); err != nil {
		t.Fatal(err)
	}
	path, err := s.Mount(ctx, "box", store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]uint32{"": {100000, 200000}, "a": {100000, 200000}, "a/b": {100001, 200002},
		"c": {100002, 200004}} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(path, name), &st); err != nil || st.Uid != want[0] || st.Gid != want[1] {
			t.Errorf("%q belongs to %d:%d, %v; want %v", name, st.Uid, st.Gid, err, want)
		}
	}
	var uids, gids []int
	err = s.View(ctx, func(tx *store.ReadTx) (err error) {
		uids, gids, err = tx.ParentOwners("box")
		return err
	})
	if err != nil || !slices.Equal(uids, []int{0}) || !slices.Equal(gids, []int{0}) {
		t.Errorf("owners above the mount: %v, %v, %v", uids, gids, err)
	}
	if err := s.DeleteContainer(ctx, "box", store.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
}
