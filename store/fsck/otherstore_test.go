package fsck_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"github.com/shalestore/shale/tests/storetest"
)

// A layer that is damaged beyond its own repair is fetched from an additional store,
// where a layer with the same ID and digest is, as pulls of one image into both make it.
// What is damaged over there is named, and nothing is done about it.
func TestRepairFromAnotherStore(t *testing.T) {
	ctx := context.Background()
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			theirs := roots(t)
			theirs.Driver = driver
			fill(t, theirs)
			cfg := roots(t)
			cfg.Driver = driver
			fill(t, cfg)
			cfg.AdditionalImageStores = []string{theirs.GraphRoot}
			s := open(t, cfg)
			noGarbage(t, s)

			content := func(cfg config.Config, layer string) string {
				if driver == "vfs" {
					return filepath.Join(cfg.GraphRoot, "vfs/dir", id(layer))
				}
				return filepath.Join(cfg.GraphRoot, "overlay", id(layer), "diff")
			}
			edit := func(path string) {
				t.Helper()
				data, err := os.ReadFile(path)
				if err == nil {
					err = os.WriteFile(path, []byte(strings.ToUpper(string(data))), 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			edit(filepath.Join(content(cfg, "app"), "etc/app"))
			if err := os.RemoveAll(content(cfg, "alone")); err != nil {
				t.Fatal(err)
			}
			report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if objects := report.Objects(); len(objects) != 2 || report.Findings[0].ReadOnly {
				t.Fatalf("%v", report.Findings)
			}
			done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{})
			if err != nil || !done.Left.Empty() {
				t.Fatalf("left %v, %v", done.Left.Findings, err)
			}
			if !slices.ContainsFunc(done.Done, func(a fsck.Action) bool {
				return a.ID == id("app") &&
					strings.Contains(a.What, theirs.GraphRoot)
			}) {
				t.Errorf("done: %v", done.Done)
			}
			noGarbage(t, s)
			alone := cfg
			alone.AdditionalImageStores = nil
			noGarbage(t, open(t, alone))
			whole(t, open(t, alone), []string{id("base"), id("app"), id("alone")})

			// Now the other store has a layer of its own that is damaged.
			importLayer(t, open(t, theirs), id("lib"), "", storetest.RichTar(t, "lib"))
			edit(filepath.Join(content(theirs, "lib"), "etc/lib"))
			s = open(t, cfg)
			if report, err = fsck.Check(ctx, s, fsck.CheckOptions{}); err != nil || len(report.Objects()) != 1 ||
				!report.Findings[0].ReadOnly || report.Findings[0].ID != id("lib") {
				t.Fatalf("%v, %v", report.Findings, err)
			}
			if done, err = fsck.Repair(ctx, s, report, fsck.RepairOptions{Force: true}); err != nil ||
				len(done.Done) != 0 ||
				len(done.Left.Objects()) != 1 {
				t.Fatalf("%+v, %v", done, err)
			}
		})
	}
}

func fill(t *testing.T, cfg config.Config) {
	s := open(t, cfg)
	importLayer(t, s, id("base"), "", storetest.RichTar(t, "base"))
	importLayer(t, s, id("app"), id("base"), storetest.RichTar(t, "app"))
	importLayer(t, s, id("alone"), "", storetest.RichTar(t, "alone"))
	for name, top := range map[string]string{"img": "app", "one": "alone"} {
		if _, err := s.CreateImage(context.Background(),
			store.ImageOptions{ID: id(name), TopLayer: id(top)}); err != nil {
			t.Fatal(err)
		}
	}
}

// Files that an interrupted command has left, of a layer that only another store has a
// record of, are garbage, whoever needs the layer.
func TestLeftoverOfAnothersLayer(t *testing.T) {
	ctx := context.Background()
	theirs := roots(t)
	fill(t, theirs)
	cfg := roots(t)
	cfg.AdditionalImageStores = []string{theirs.GraphRoot}
	s := open(t, cfg)
	importLayer(t, s, id("mine"), id("app"), storetest.RichTar(t, "mine"))
	noGarbage(t, s)
	stray := filepath.Join(cfg.GraphRoot, "overlay", id("app"))
	if err := os.MkdirAll(filepath.Join(stray, "diff"), 0o700); err != nil {
		t.Fatal(err)
	}
	report, err := fsck.Check(ctx, s, fsck.CheckOptions{Quick: true})
	if err != nil || !slices.Equal(report.Garbage().Objects(), []fsck.Object{{Kind: fsck.KindLayer, ID: id("app")}}) {
		t.Fatalf("%v, %v", report.Findings, err)
	}
	if _, err := fsck.GC(ctx, s, fsck.GCOptions{}); err != nil {
		t.Fatal(err)
	}
	noGarbage(t, s)
}

// A mounted layer isn't taken from under its users.
func TestRepairLeavesMountedLayersAlone(t *testing.T) {
	ctx := context.Background()
	p := newPatient(t, "overlay")
	s := p.open()
	if _, err := s.Mount(ctx, id("box"), store.MountOptions{}); err != nil {
		t.Fatal(err)
	}
	p.must(os.Chmod(p.diff("app", "etc/twin"), 0o600))
	report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
	p.must(err)
	done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{Force: true})
	if err == nil || !strings.Contains(err.Error(), errdefs.ErrInUse.Error()) || done.Left.Empty() {
		t.Fatalf("%+v, %v", done, err)
	}
	if all := p.objects(s); !slices.Contains(all, "layer app") || !slices.Contains(all, "container box") {
		t.Fatalf("there are %v", all)
	}
	if _, err := s.Unmount(ctx, id("box"), false); err != nil {
		t.Fatal(err)
	}
	if done, err = fsck.Repair(ctx, s, report, fsck.RepairOptions{}); err != nil || !done.Left.Empty() {
		t.Fatalf("%+v, %v", done, err)
	}
}
