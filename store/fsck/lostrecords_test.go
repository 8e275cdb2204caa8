package fsck_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/fsck"
)

// Of layers that nothing refers to only the records tell that they are no garbage. Where
// those were lost, they are recorded again.
func TestLayersNobodyNeedsSurviveTheLossOfTheirRecords(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, 30) },
		"zeros":   func(path string) error { return os.WriteFile(path, make([]byte, 300), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			cfg := roots(t)
			s := open(t, cfg)
			tar := layerTar(t, "etc/", "etc/hosts")
			importLayer(t, s, id("base"), "", tar, "base")
			if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id("work"), Parent: id("base")}); err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(cfg.GraphRoot, "overlay-layers/layers.json")); err != nil {
				t.Fatal(err)
			}
			s = open(t, cfg)
			if _, err := fsck.GC(ctx, s, fsck.GCOptions{}); !errors.Is(err, errdefs.ErrCorrupt) {
				t.Errorf("gc: %v", err)
			}
			report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
			if err != nil {
				t.Fatal(err)
			}
			done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{})
			if err != nil || !done.Left.Empty() {
				t.Fatalf("left %+v, %v", done.Left, err)
			}
			for _, ref := range []string{id("base"), id("work")} {
				if _, err := findLayer(s, ref); err != nil {
					t.Error(err)
				}
			}
			if got := export(t, s, id("base")); !bytes.Equal(got, tar) {
				t.Errorf("%d bytes come out, of %d", len(got), len(tar))
			}
		})
	}
}

// Nothing goes of an image or a container whose record was lost: not by gc, and not by
// repair, which makes records again, or moves what it can't describe to where gc won't
// find it.
func TestItemsOfLostRecordsAreKept(t *testing.T) {
	for _, kind := range []string{"images", "containers"} {
		for name, damage := range map[string]func(path string) error{
			"emptied": func(path string) error { return os.Truncate(path, 0) },
			"cut":     func(path string) error { return os.Truncate(path, 20) },
			"removed": os.Remove,
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				ctx := context.Background()
				p := newPatient(t, "overlay")
				p.must(damage(p.path("overlay-"+kind, kind+".json")))
				s := p.open()
				if name != "cut" {
					if done, err := fsck.GC(ctx, s, fsck.GCOptions{}); err != nil || !done.Empty() {
						t.Errorf("gc: %+v, %v", done, err)
					}
				}
				report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
				p.must(err)
				if report.Empty() {
					t.Error("nothing is named")
				}
				done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{})
				item := p.path("overlay-images", ":img", "config")
				if kind == "images" {
					if err != nil || !done.Left.Empty() {
						t.Errorf("%+v, %v", done, err)
					}
					if image, err := findImage(s, id("img")); err != nil || image.TopLayer != id("app") {
						t.Errorf("%+v, %v", image, err)
					}
				} else {
					item = filepath.Join(p.path("overlay-containers", ":box")+".damaged", "state")
					if !errors.Is(err, errdefs.ErrNotFound) || !done.Left.Empty() {
						t.Errorf("%+v, %v", done, err)
					}
				}
				if done, err := fsck.GC(ctx, p.open(), fsck.GCOptions{}); err != nil || !done.Empty() {
					t.Errorf("gc: %+v, %v", done, err)
				}
				p.read(item)
			})
		}
	}
}
