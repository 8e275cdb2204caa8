package store_test

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
				if _, err := s.Layer(ctx, ref); err != nil {
					t.Error(err)
				}
			}
			if got := export(t, s, id("base")); !bytes.Equal(got, tar) {
				t.Errorf("%d bytes come out, of %d", len(got), len(tar))
			}
		})
	}
}

// Without force nothing of an image or a container goes whose record was lost: the file
// of records may be put back.
func TestItemsOfLostRecordsAreKept(t *testing.T) {
	for _, kind := range []string{"images", "containers"} {
		for name, size := range map[string]int64{"emptied": 0, "cut": 20} {
			t.Run(kind+" "+name, func(t *testing.T) {
				ctx := context.Background()
				p := newPatient(t, "overlay")
				item := map[string]string{"images": p.path("overlay-images", ":img", "config"),
					"containers": p.path("overlay-containers", ":box", "state")}[kind]
				p.must(os.Truncate(p.path("overlay-"+kind, kind+".json"), size))
				s := p.open()
				if size == 0 {
					if done, err := fsck.GC(ctx, s, fsck.GCOptions{}); err != nil || !done.Empty() {
						t.Errorf("gc: %+v, %v", done, err)
					}
				}
				report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
				p.must(err)
				if done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{}); err != nil || done.Left.Empty() {
					t.Errorf("%+v, %v", done, err)
				}
				p.read(item)
			})
		}
	}
}
