package catalog_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
)

func layerCatalog(dir string) *catalog.Catalog[layers.Layer] {
	return catalog.New(catalog.Schema[layers.Layer]{
		Kind:     "layer",
		ID:       func(l *layers.Layer) string { return l.ID },
		Names:    func(l *layers.Layer) []string { return l.Names },
		SetNames: func(l *layers.Layer, names []string) { l.Names = names },
		Keys: func(l *layers.Layer) []catalog.Key {
			return []catalog.Key{{"diff", string(l.DiffID)}, {"parent", l.Parent}}
		},
		Hidden:     func(l *layers.Layer) bool { return l.Flags["incomplete"] == true },
		HiddenMark: "incomplete",
	}, filepath.Join(dir, "layers.lock"),
		catalog.File{Path: filepath.Join(dir, "layers.json")},
		catalog.File{Path: filepath.Join(dir, "volatile-layers.json"), Volatile: true})
}

func TestInsertAndLookUp(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	c := layerCatalog(dir)
	created := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	err := c.Update(ctx, func(tx *catalog.WriteTx[layers.Layer]) error {
		if err := tx.Insert(layers.Layer{ID: "abc", Names: []string{"one"}, Created: created}, 0); err != nil {
			return err
		}
		if err := tx.Insert(layers.Layer{ID: "abd", Parent: "abc", Created: created}, 1); err != nil {
			return err
		}
		if err := tx.Insert(layers.Layer{ID: "abc"}, 0); !errors.Is(err, errdefs.ErrDuplicateID) {
			t.Errorf("second abc: %v", err)
		}
		if err := tx.Insert(layers.Layer{ID: "x", Names: []string{"one"}}, 0); !errors.Is(err,
			errdefs.ErrDuplicateName) {
			t.Errorf("second one: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(filepath.Join(dir, "layers.json"))
	if want := `[{"id":"abc","names":["one"],"created":"2026-01-02T03:04:05.000000006Z"}]`; string(got) != want {
		t.Errorf("layers.json is %s, want %s", got, want)
	}
	for _, c := range []*catalog.Catalog[layers.Layer]{c, layerCatalog(dir)} {
		err = c.View(ctx, func(tx *catalog.ReadTx[layers.Layer]) error {
			for ref, want := range map[string]string{"abc": "abc", "one": "abc", "abd": "abd", "ab": "", "": "",
				"z": ""} {
				l, err := tx.Lookup(ref)
				if l.ID != want || (want == "") != errors.Is(err, errdefs.ErrNotFound) {
					t.Errorf("%q: got %q, %v, want %q", ref, l.ID, err, want)
				}
			}
			children, err := tx.Find("parent", "abc")
			if err != nil || len(children) != 1 || children[0].ID != "abd" {
				t.Errorf("children: %v %v", children, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
