package catalog_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
)

// together changes two catalogs and saves them in one go.
func together(ctx context.Context, l *catalog.Catalog[layers.Layer], c *catalog.Catalog[containers.Container],
	id string) error {
	return l.Update(ctx, func(ltx *writeTx) error {
		return c.Update(ctx, func(ctx *catalog.WriteTx[containers.Container]) error {
			if err := ltx.Insert(layers.Layer{ID: id}, 0); err != nil {
				return err
			}
			if err := ctx.Insert(containers.Container{ID: id, LayerID: id}, 0); err != nil {
				return err
			}
			return catalog.SaveTogether(ltx, ctx)
		})
	})
}

// At every step of a common save the files show a later catalog's change only beside the
// earlier one's.
func TestSaveTogether(t *testing.T) {
	layerDir, containerDir := t.TempDir(), t.TempDir()
	shows := func(path string) bool {
		data, err := os.ReadFile(path)
		return err == nil && len(data) > 2
	}
	var seen []string
	ctx := step.Watch(t.Context(), func(string) {
		state := ""
		if shows(filepath.Join(layerDir, "layers.json")) {
			state += "layer "
		}
		if shows(filepath.Join(containerDir, "containers.json")) {
			state += "container"
		}
		seen = append(seen, state)
	})
	l, c := layerCatalog(layerDir), containerCatalog(containerDir)
	if err := together(ctx, l, c, "one"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"", "", "layer ", "layer container"}; !slices.Equal(slices.Compact(seen),
		slices.Compact(want)) {
		t.Errorf("the files showed %q, want %q", seen, want)
	}
	// Others see it, and so do these.
	for _, again := range []*catalog.Catalog[containers.Container]{c, containerCatalog(containerDir)} {
		if err := again.View(ctx, func(tx *catalog.ReadTx[containers.Container]) error {
			_, err := tx.Get("one")
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

// What can't be written aside keeps all the others from being seen.
func TestSaveTogetherFailsBeforeItShowsAnything(t *testing.T) {
	dir := t.TempDir()
	inTheWay := filepath.Join(dir, "file")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := catalog.New(catalog.Schema[containers.Container]{Kind: "container",
		ID: func(c *containers.Container) string { return c.ID }},
		filepath.Join(dir, "containers.lock"), catalog.File{Path: filepath.Join(inTheWay, "containers.json")})
	l := layerCatalog(dir)
	if err := together(t.Context(), l, c, "one"); err == nil {
		t.Fatal("saved containers in a file that is no directory")
	}
	for _, l := range []*catalog.Catalog[layers.Layer]{l, layerCatalog(dir)} {
		view(t, l, func(tx *readTx) error {
			if _, err := tx.Get("one"); !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("the layer is there without its container: %v", err)
			}
			return nil
		})
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".tmp-") {
			t.Errorf("%s is left over", e.Name())
		}
	}
}
