package fsck_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"github.com/shalestore/shale/tests/storetest"
	"golang.org/x/sys/unix"
)

// A layer that no image and no container uses is no damage, whoever made it, and repair
// doesn't touch it. As containers-storage does it, it goes, unless it is mounted or has a
// name.
func TestLayersThatNothingUses(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	s := open(t, cfg)
	importLayer(t, s, id("base"), "", layerTar(t, "f"))
	importLayer(t, s, id("named"), id("base"), layerTar(t, "g"), "named")
	importLayer(t, s, id("lone"), "", layerTar(t, "h"))
	importLayer(t, s, id("above"), id("lone"), layerTar(t, "i"))
	for _, name := range []string{"work", "plain"} {
		if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id(name), Parent: id("lone"),
			Writable: true}); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := s.Mount(ctx, id("work"), store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "notes"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := func() (words []string) {
		ls, err := allLayers(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range ls {
			for _, word := range []string{"base", "named", "lone", "above", "work", "plain"} {
				if l.ID == id(word) {
					words = append(words, word)
				}
			}
		}
		slices.Sort(words)
		return words
	}
	opts := fsck.CheckOptions{UnusedAfter: -1}
	report, err := fsck.Check(ctx, s, opts)
	if err != nil || !report.Empty() || len(report.Notes) != 6 {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, force := range []bool{false, true} {
		if done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{CheckOptions: opts, Force: force}); err != nil ||
			len(done.Done) > 0 || len(all()) != 6 {
			t.Fatalf("%+v, %v; there are %v", done, err, all())
		}
	}
	opts.DeleteAsPeer = true
	if report, err = fsck.Check(ctx, s, opts); err != nil || len(report.Findings) != 2 {
		t.Fatalf("%+v, %v", report, err)
	}
	done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{CheckOptions: opts})
	if want := []string{"base", "lone", "named", "work"}; err != nil || !slices.Equal(all(), want) {
		t.Fatalf("%+v, %v; there are %v", done, err, all())
	}
	if data, err := os.ReadFile(filepath.Join(dir, "notes")); err != nil || string(data) != "x" {
		t.Errorf("%q, %v", data, err)
	}
}

// What is in the place of a file or a directory of the format is named before anything is
// read through it, and moved aside; nothing outside is read, written or removed, and
// nobody waits.
func TestSomethingElseInItsPlace(t *testing.T) {
	fifo := func(path string) error { return unix.Mkfifo(path, 0o600) }
	device := func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) }
	dangling := func(path string) error { return os.Symlink("/no/such/place", path) }
	file := func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) }
	dir := func(path string) error { return os.Mkdir(path, 0o700) }
	kinds := map[string]func(string) error{"pipe": fifo, "device": device, "dangling": dangling, "file": file,
		"directory": dir, "link": nil}
	for _, c := range []struct {
		path string
		not  string // what belongs there
		lost []string
	}{
		{path: "root/overlay/l", not: "directory"},
		{path: "root/overlay-layers/tmp", not: "directory"},
		{path: "root/overlay-layers/layers.json", not: "file"},
		{path: "root/overlay-layers/layers.lock", not: "file"},
		{path: "root/overlay-images/images.lock", not: "file"},
		{path: "root/storage.lock", not: "file"},
		{path: "root/overlay-layers/" + id("pair1") + ".tar-split.gz", not: "file"},
		{path: "root/overlay-layers/" + id("app"), not: "directory"},
		{path: "root/overlay-images/" + id("old"), not: "directory", lost: []string{"image old"}},
		{path: "root/overlay/" + id("app") + "/merged", not: "directory"},
		{path: "root/overlay/" + id("app") + "/lower", not: "file"},
		{path: "run/overlay-layers/mountpoints.json", not: "file"},
		{path: "run/overlay-layers/mountpoints.lock", not: "file"},
	} {
		for kind, make := range kinds {
			if kind == c.not {
				continue
			}
			t.Run(c.path+" "+kind, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				p := newPatient(t, "overlay")
				before := p.objects(p.open())
				top := filepath.Dir(p.dir)
				path := filepath.Join(top, c.path)
				sentinel := filepath.Join(top, "sentinel")
				testutil.Tree(t, sentinel, "file=precious", "temp-dir-1/file=precious", "lock-1=", "manifest=precious")
				was := testutil.Snapshot(t, sentinel)
				p.must(os.RemoveAll(path))
				switch {
				case kind == "link" && c.not == "file":
					p.must(os.Symlink(filepath.Join(sentinel, "file"), path))
				case kind == "link":
					p.must(os.Symlink(sentinel, path))
				default:
					p.must(make(path))
				}
				report, err := fsck.Check(ctx, p.open(), fsck.CheckOptions{})
				if err != nil || len(report.Findings) != 1 || report.Findings[0].ID != path {
					t.Fatalf("%v, %v", report.Findings, err)
				}
				if done, err := fsck.GC(ctx, p.open(), fsck.GCOptions{}); !errors.Is(err, errdefs.ErrCorrupt) ||
					!done.Empty() {
					t.Fatalf("gc: %v, %v", done, err)
				}
				s := p.open()
				done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{})
				if err != nil || !done.Left.Empty() {
					t.Fatalf("left %v, %v", done.Left.Findings, err)
				}
				noGarbage(t, p.open())
				want := slices.DeleteFunc(before, func(o string) bool { return slices.Contains(c.lost, o) })
				if got := p.objects(p.open()); !slices.Equal(got, want) {
					t.Errorf("there are\n%v, want\n%v; done %v", got, want, done.Done)
				}
				testutil.SameTree(t, was, testutil.Snapshot(t, sentinel))
			})
		}
	}
}

// Of a layer that an additional store has lost, check tells where it was, and what can't
// be used any more.
func TestAnotherStoreLostALayer(t *testing.T) {
	ctx := context.Background()
	theirs := roots(t)
	fill(t, theirs)
	cfg := roots(t)
	cfg.AdditionalImageStores = []string{theirs.GraphRoot}
	s := open(t, cfg)
	importLayer(t, s, id("mine"), id("app"), storetest.RichTar(t, "mine"))
	if _, err := s.CreateImage(ctx, store.ImageOptions{ID: id("new"), TopLayer: id("mine")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id("box"), Image: id("new"),
		Layer: id("boxlayer")}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(theirs.GraphRoot, "overlay", id("app"))); err != nil {
		t.Fatal(err)
	}
	report, err := fsck.Check(ctx, open(t, cfg), fsck.CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := slices.IndexFunc(report.Findings, func(f fsck.Finding) bool { return f.ID == id("app") })
	if n < 0 {
		t.Fatalf("not named: %v", report.Findings)
	}
	lost := report.Findings[n]
	if want := filepath.Join(theirs.GraphRoot, "overlay", id("app"), "diff"); lost.Path != want || !lost.ReadOnly {
		t.Errorf("at %s, want %s", lost.Path, want)
	}
	for _, want := range []fsck.Object{{Kind: fsck.KindLayer, ID: id("mine")},
		{Kind: fsck.KindLayer, ID: id("boxlayer")},
		{Kind: fsck.KindImage, ID: id("img")}, {Kind: fsck.KindImage, ID: id("new")},
		{Kind: fsck.KindContainer, ID: id("box")}} {
		if !slices.Contains(lost.Affects, want) {
			t.Errorf("it isn't said that %s needs it: %v", want, lost.Affects)
		}
	}
}

// Images that other programs can't read are noted, and aren't damage.
func TestImagesThatBlockTheNeighbours(t *testing.T) {
	ctx := context.Background()
	s := open(t, roots(t))
	for word, items := range map[string][]images.Item{
		"none":  nil,
		"bad":   {{Key: "manifest", Data: []byte("no JSON")}},
		"sound": {{Key: "manifest", Data: []byte(`{"schemaVersion":1,"fsLayers":[]}`)}},
	} {
		if _, err := s.CreateImage(ctx, store.ImageOptions{ID: id(word), BigData: items}); err != nil {
			t.Skip(err) // it isn't made any more
		}
	}
	report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
	if err != nil || !report.Empty() {
		t.Fatalf("%v, %v", report.Findings, err)
	}
	var noted []string
	for _, f := range report.Notes {
		noted = append(noted, f.ID)
	}
	slices.Sort(noted)
	if want := []string{id("bad"), id("none")}; !slices.Equal(noted, want) {
		t.Errorf("noted %v, want %v", noted, want)
	}
}

// What somebody has mounted within a layer hides a part of it, so the layer looks
// damaged. Repair takes nothing away for that, and names the mount.
func TestForeignMountWithinALayer(t *testing.T) {
	testutil.HostRoot(t)
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			ctx := context.Background()
			cfg := roots(t)
			cfg.Driver = driver
			s := open(t, cfg)
			importLayer(t, s, id("base"), "", layerTar(t, "etc/", "etc/hosts"))
			dir := filepath.Join(cfg.GraphRoot, map[string]string{"overlay": "overlay/" + id("base") + "/diff",
				"vfs": "vfs/dir/" + id("base")}[driver], "etc")
			if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
			report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
			if err != nil || report.Empty() {
				t.Fatalf("found nothing, or %v", err)
			}
			done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{})
			if !errors.Is(err, errdefs.ErrInUse) || !strings.Contains(err.Error(), dir) || done.Left.Empty() {
				t.Errorf("left %+v, %v", done.Left, err)
			}
			opts := fsck.CheckOptions{UnusedAfter: -1, DeleteAsPeer: true}
			if report, err = fsck.Check(ctx, s, opts); err != nil || report.Empty() {
				t.Fatalf("for a peer: found nothing, or %v", err)
			}
			done, err = fsck.Repair(ctx, s, report, fsck.RepairOptions{CheckOptions: opts, Force: true})
			if !errors.Is(err, errdefs.ErrInUse) || len(done.Done) > 0 {
				t.Errorf("for a peer: did %+v, %v", done.Done, err)
			}
			if err := s.Wait(ctx); err != nil {
				t.Error(err)
			}
			if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != nil {
				t.Fatalf("the foreign mount is gone: %v", err)
			}
			if report, err = fsck.Check(ctx, s, fsck.CheckOptions{}); err != nil || !report.Empty() {
				t.Errorf("without the mount: %+v, %v", report, err)
			}
		})
	}
}
