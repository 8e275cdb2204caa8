package usage_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/diskusage"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/usage"
	"github.com/shalestore/shale/tests/harness"
	"golang.org/x/sys/unix"
)

func usageOf(t testing.TB, s *store.Store) usage.Report {
	t.Helper()
	r, err := usage.Of(context.Background(), s, usage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func find(t testing.TB, list []usage.Usage, id string) usage.Usage {
	t.Helper()
	n := slices.IndexFunc(list, func(u usage.Usage) bool { return u.ID == id })
	if n < 0 {
		t.Fatalf("%s isn't in %+v", id, list)
	}
	return list[n]
}

// sized makes a tar with one file.
func sized(t testing.TB, name string, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeTar(&b, name, size); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// fleet is a store with two images on one base, a container of the second, and a layer of
// nobody's.
func fleet(t *testing.T, cfg config.Config) *store.Store {
	ctx := context.Background()
	s := open(t, cfg)
	importLayer(t, s, id("base"), "", sized(t, "b", 400_000))
	importLayer(t, s, id("one"), id("base"), sized(t, "1", 100_000))
	importLayer(t, s, id("two"), id("base"), sized(t, "2", 200_000))
	importLayer(t, s, id("nobody"), "", sized(t, "n", 50_000))
	for name, top := range map[string]string{"image1": "one", "image2": "two"} {
		if _, err := s.CreateImage(ctx, store.ImageOptions{ID: id(name), Names: []string{name},
			TopLayer: id(top)}); err != nil {
			t.Fatal(err)
		}
		if err := change(s, func(tx *store.WriteTx) error {
			return tx.SetImageBigData(name, "manifest", []byte(`{"schemaVersion": 2}`), "")
		}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id("container"), Image: "image2"}); err != nil {
		t.Fatal(err)
	}
	return s
}

// What is unique, shared, freed and used adds up, and deleting frees what was said.
func TestUsageTellsWhatDeletingFrees(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			ctx := context.Background()
			cfg := roots(t)
			cfg.Driver = driver
			s := fleet(t, cfg)
			r := usageOf(t, s)

			one, two := find(t, r.Images, id("image1")), find(t, r.Images, id("image2"))
			base := find(t, r.Layers, id("base"))
			if one.Shared != base.Total || two.Shared != base.Total || base.Shared != base.Total ||
				base.Unique != (usage.Space{}) {
				t.Errorf("shared: %+v and %+v, base %+v", one.Shared, two.Shared, base)
			}
			if one.Unique.Bytes < 100_000 || one.Freed != one.Unique || one.Total.Bytes != one.Unique.Bytes+
				one.Shared.Bytes {
				t.Errorf("the image that nothing stands on: %+v", one)
			}
			if two.Freed != (usage.Space{}) || two.Users != 1 || base.Users != 3 {
				t.Errorf("the image of a container: %+v; the base: %+v", two, base)
			}
			if c := find(t, r.Containers, id("container")); c.Freed != c.Unique || c.Freed.Inodes == 0 ||
				c.Shared.Bytes < 600_000 {
				t.Errorf("the container: %+v", c)
			}
			nobody := find(t, r.Layers, id("nobody"))
			if r.Unused != nobody.Total || nobody.Freed != nobody.Total || nobody.Users != 0 {
				t.Errorf("unused: %+v, the layer: %+v", r.Unused, nobody)
			}
			if r.Images[0].ID != id("image2") || len(r.Layers) != 5 || r.FileSystem.Size.Bytes == 0 {
				t.Errorf("order or number: %+v", r)
			}

			freed := func(what string, want usage.Space, remove func() error) {
				t.Helper()
				before := usageOf(t, s).Total
				disk := allocated(t, cfg)
				if err := errors.Join(remove(), s.Wait(ctx)); err != nil {
					t.Fatal(err)
				}
				after := usageOf(t, s).Total
				if got := (usage.Space{Bytes: before.Bytes - after.Bytes,
					Inodes: before.Inodes - after.Inodes}); got != want {
					t.Errorf("deleting the %s freed %+v, said was %+v", what, got, want)
				}
				// The records shrink as well, and overlay has a link for each layer.
				if got := disk - allocated(t, cfg); got < want.Bytes || got > want.Bytes+20_000 {
					t.Errorf("deleting the %s freed %d bytes of disk, said was %d", what, got, want.Bytes)
				}
			}
			freed("image", one.Freed, func() error {
				_, err := s.DeleteImage(ctx, id("image1"), store.DeleteOptions{})
				return err
			})
			freed("layer", nobody.Freed, func() error {
				return s.DeleteLayer(ctx, id("nobody"), store.DeleteOptions{Force: true})
			})
			freed("container", find(t, r.Containers, id("container")).Freed,
				func() error { return s.DeleteContainer(ctx, id("container"), store.DeleteOptions{Force: true}) })
			two = find(t, usageOf(t, s).Images, id("image2"))
			if two.Shared.Bytes != 0 || two.Freed != two.Total {
				t.Errorf("the last image shares nothing: %+v", two)
			}
			freed("last image", two.Freed, func() error {
				_,
					err := s.DeleteImage(ctx, id("image2"), store.DeleteOptions{})
				return err
			})
			noGarbage(t, s)
		})
	}
}

// allocated is what a walk of the whole graph root counts.
func allocated(t testing.TB, cfg config.Config) int64 {
	t.Helper()
	tree, err := diskusage.Count(context.Background(), cfg.GraphRoot)
	if err != nil {
		t.Fatal(err)
	}
	return tree.Allocated
}

// What was measured once is not walked again until something changes.
func TestUsageRemembersWhatDoesNotChange(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	s := fleet(t, cfg)
	basis := func(list []usage.Usage, of string) usage.Basis { t.Helper(); return find(t, list, id(of)).Basis }
	first := usageOf(t, s)
	if basis(first.Layers, "base") != usage.BasisWalk {
		t.Errorf("first time: %s", basis(first.Layers, "base"))
	}
	second := usageOf(t, open(t, cfg))
	if basis(second.Layers, "base") != usage.BasisCache || basis(second.Layers, "nobody") != usage.BasisCache {
		t.Errorf("second time: %+v", second.Layers)
	}
	if basis(second.Containers, "container") != usage.BasisWalk {
		t.Errorf("a container's layer is taken from the cache")
	}
	if first.Total != second.Total {
		t.Errorf("%+v, then %+v", first.Total, second.Total)
	}
	noGarbage(t, s)

	grown := func(what string, layer string, change func()) {
		t.Helper()
		before := find(t, usageOf(t, s).Layers, id(layer)).Total
		change()
		after := find(t, usageOf(t, s).Layers, id(layer))
		if after.Total.Bytes < before.Bytes+70_000 {
			t.Errorf("%s: %+v, before %+v", what, after, before)
		}
	}
	grown("a diff", "nobody", func() {
		if _, err := s.ApplyDiff(ctx, id("nobody"), bytes.NewReader(sized(t, "more", 70_000)), nil); err != nil {
			t.Fatal(err)
		}
	})
	var path string
	grown("written to while it is mounted", "nobody", func() {
		var err error
		if path, err = s.Mount(ctx, id("nobody"), store.MountOptions{}); err != nil {
			t.Fatal(err)
		}
		testutil.Tree(t, path, "deep/er=", "deep/more*70000")
	})
	grown("unmounted since", "nobody", func() {
		testutil.Tree(t, path, "deep/most*70000")
		if _, err := s.Unmount(ctx, id("nobody"), false); err != nil {
			t.Fatal(err)
		}
	})
	grown("a data item", "one", func() {
		if err := s.SetLayerBigData(ctx, id("one"), "key", strings.NewReader(strings.Repeat("x", 70_000))); err != nil {
			t.Fatal(err)
		}
	})

	// Whatever is in the cache's place, the numbers stay true.
	want := usageOf(t, s).Total
	cache := filepath.Join(cfg.RunRoot, "overlay-layers", "footprints.json")
	for _, content := range []string{"", "{", "null", `{"` + id("base") + `": {"stamp": "", "bytes": 1}}`} {
		if err := os.WriteFile(cache, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := usageOf(t, s).Total; got != want {
			t.Errorf("with %q for a cache: %+v, want %+v", content, got, want)
		}
	}
	if err := os.Remove(cache); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := usageOf(t, s).Total; got != want {
		t.Errorf("without a cache: %+v, want %+v", got, want)
	}
}

// A layer that has lost its files takes nothing, and keeps nobody from knowing the rest.
func TestUsageOfDamagedStore(t *testing.T) {
	cfg := roots(t)
	s := fleet(t, cfg)
	if err := os.RemoveAll(filepath.Join(cfg.GraphRoot, "overlay", id("base"))); err != nil {
		t.Fatal(err)
	}
	r := usageOf(t, s)
	if base := find(t, r.Layers, id("base")); base.Basis != usage.BasisMissing || base.Total.Bytes != 0 {
		t.Errorf("%+v", base)
	}
	if find(t, r.Layers, id("one")).Total.Bytes < 100_000 {
		t.Errorf("%+v", r.Layers)
	}
}

// What is in an additional store is listed, counts nowhere and frees nothing.
func TestUsageOfAdditionalStore(t *testing.T) {
	ctx := context.Background()
	there := roots(t)
	s := fleet(t, there)
	if err := s.DeleteContainer(ctx, id("container"), store.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	here := roots(t)
	here.AdditionalImageStores = []string{there.GraphRoot}
	own := open(t, here)
	importLayer(t, own, id("mine"), id("one"), sized(t, "m", 30_000))
	for range 2 {
		r := usageOf(t, own)
		image, base := find(t, r.Images, id("image1")), find(t, r.Layers, id("base"))
		if !image.ReadOnly || !base.ReadOnly || image.Freed.Bytes+base.Freed.Bytes != 0 || base.Total.Bytes < 400_000 {
			t.Errorf("%+v, %+v", image, base)
		}
		if mine := find(t, r.Layers, id("mine")); r.Total != mine.Total || r.Unused != mine.Total {
			t.Errorf("total %+v, unused %+v, its own layer %+v", r.Total, r.Unused, mine.Total)
		}
	}
}

// What containers/storage does to a layer in its own way is noticed, and the cache
// doesn't bother it.
func TestUsageNoticesThePeer(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			cfg := roots(t)
			cfg.Driver = driver
			root := harness.Root{Graph: cfg.GraphRoot, Run: cfg.RunRoot, Driver: driver}
			tool := harness.Peer(t)
			peer := func(args ...string) string {
				t.Helper()
				return root.Must(t, tool, args...)
			}
			tars := t.TempDir()
			tarFile := func(name string) string {
				path := filepath.Join(tars, name)
				if err := os.WriteFile(path, sized(t, name, 70_000), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			peer("import-layer", "-i", id("layer"), "-f", tarFile("first"), "-n", "layer")
			s := open(t, cfg)
			measured := func(want usage.Basis) int64 {
				t.Helper()
				l := find(t, usageOf(t, s).Layers, id("layer"))
				if l.Basis != want {
					t.Errorf("found out by %s, want %s", l.Basis, want)
				}
				return l.Total.Bytes
			}
			size := measured(usage.BasisWalk)
			grown := func(what string) {
				t.Helper()
				now := measured(usage.BasisWalk)
				if now < size+65_000 {
					t.Errorf("after %s: %d bytes, before %d", what, now, size)
				}
				size = now
			}
			if again := measured(usage.BasisCache); again != size {
				t.Errorf("%d bytes, then %d", size, again)
			}
			peer("apply-diff", "-f", tarFile("second"), id("layer"))
			grown("its diff")
			measured(usage.BasisCache)
			path := peer("mount", id("layer"))
			testutil.Tree(t, path, "dir/third*70000")
			grown("writing through its mount")
			testutil.Tree(t, path, "dir/fourth*70000")
			peer("unmount", id("layer"))
			if driver == "overlay" { // plain copies keep no trace of it
				grown("its unmounting")
			}
			usageOf(t, s)
			if _, err := s.Mount(t.Context(), id("layer"), store.MountOptions{}); err != nil {
				t.Fatal(err)
			}
			testutil.Tree(t, path, "dir/fifth*70000")
			if _, err := s.Unmount(t.Context(), id("layer"), false); err != nil {
				t.Fatal(err)
			}
			grown("writing through our own mount")
			item := filepath.Join(tars, "item")
			if err := os.WriteFile(item, []byte(strings.Repeat("x", 70_000)), 0o600); err != nil {
				t.Fatal(err)
			}
			peer("set-layer-data", "-f", item, id("layer"), "key")
			size = measured(usage.BasisWalk)
			peer("delete-layer", id("layer"))
			if r := usageOf(t, s); len(r.Layers) != 0 || r.Total.Bytes != 0 {
				t.Errorf("after its deletion: %+v", r)
			}
		})
	}
}

// What a quota counts needn't be walked, and is what a walk would find.
func TestQuotaInUsage(t *testing.T) {
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			ctx := context.Background()
			disk := testutil.QuotaFS(t, kind)
			s := open(t, config.Config{GraphRoot: filepath.Join(disk.Dir, "root"), RunRoot: t.TempDir(),
				Driver: "overlay"})
			importLayer(t, s, id("base"), "", layerTar(t, "etc/", "etc/passwd"))
			if _, err := s.CreateImage(ctx, store.ImageOptions{Names: []string{"image"},
				TopLayer: id("base")}); err != nil {
				t.Fatal(err)
			}
			bytes, inodes := uint64(50<<20), uint64(1000)
			c, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "image", Limits: drivers.Limits{
				Bytes: &bytes, Inodes: &inodes}})
			if err != nil {
				t.Fatal(err)
			}
			path, err := s.Mount(ctx, c.ID, store.MountOptions{})
			if err != nil {
				t.Fatal(err)
			}
			testutil.Tree(t, path, "a*3000000", "b=>a", "d/c*10")
			if _, err := s.Unmount(ctx, c.ID, false); err != nil {
				t.Fatal(err)
			}
			if err := fsat.SyncFS(disk.Dir); err != nil { // XFS and ext4 count blocks when they find places for them
				t.Fatal(err)
			}
			used := find(t, usageOf(t, s).Containers, c.ID)
			tree, err := diskusage.Count(ctx, filepath.Join(disk.Dir, "root", "overlay", c.LayerID))
			if err != nil {
				t.Fatal(err)
			}
			if used.Basis != usage.BasisQuota || used.Limit != (usage.Space{Bytes: 50 << 20, Inodes: 1000}) {
				t.Errorf("found out by %s, limit %+v", used.Basis, used.Limit)
			}
			if used.Unique != (usage.Space{Bytes: tree.Allocated, Inodes: tree.Inodes}) {
				t.Errorf("by quota %+v, by a walk %+v", used.Unique, tree)
			}
		})
	}
}

// Nobody waits at a pipe in the place of what was measured before, and a link there isn't
// followed.
func TestUsageWithSomethingElseForItsCache(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"pipe": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"link": func(path string) error { return os.Symlink("/proc/kmsg", path) }, // a reader would wait
	} {
		t.Run(name, func(t *testing.T) {
			cfg := roots(t)
			s := open(t, cfg)
			importLayer(t, s, id("base"), "", layerTar(t, "f"))
			path := filepath.Join(cfg.RunRoot, "overlay-layers/footprints.json")
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if r, err := usage.Of(ctx, s, usage.Options{}); err != nil || len(r.Layers) != 1 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}
