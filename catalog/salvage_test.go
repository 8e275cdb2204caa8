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
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
)

// What is whole in a damaged file is kept, wherever the damage is, and the file as it was
// as well; a sound file isn't touched.
func TestSalvage(t *testing.T) {
	const a, b, c = `{"id":"a","created":"0001-01-01T00:00:00Z"}`,
		`{"id":"b","names":["b"],"created":"0001-01-01T00:00:00Z"}`,
		`{"id":"c","created":"0001-01-01T00:00:00Z","later":[1,{}]}`
	all := "[" + a + "," + b + "," + c + "]"
	type test struct {
		name, data string
		want       []string
	}
	tests := []test{
		{"sound", all, []string{"a", "b", "c"}},
		{"empty", "", nil},
		{"another form", "[" + a + `,{"id":"b","created":5},` + c + "]", []string{"a", "c"}},
		{"names of another form", "[" + a + `,{"id":"b","names":"b"},` + c + "]", []string{"a", "c"}},
		{"without an ID", "[" + a + `,{"names":["x"]},` + c + "]", []string{"a", "c"}},
		{"rubbish between", "[" + a + ",rubbish," + c + "]", []string{"a"}},
		{"rubbish behind", all + all, []string{"a", "b", "c"}},
		{"no array", `{"a":1}`, nil},
		{"zeros", strings.Repeat("\x00", 100), nil},
	}
	for n := 1; n < len(all); n += 7 {
		var want []string
		for id, end := range map[string]int{"a": 1 + len(a), "b": 2 + len(a) + len(b), "c": 3 + len(a) + len(b) +
			len(c)} {
			if n >= end {
				want = append(want, id)
			}
		}
		slices.Sort(want)
		tests = append(tests, test{"cut", all[:n], want})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, dir := context.Background(), t.TempDir()
			path := filepath.Join(dir, "layers.json")
			if err := os.WriteFile(path, []byte(test.data), 0o600); err != nil {
				t.Fatal(err)
			}
			cat := layerCatalog(dir)
			readErr := cat.View(ctx, func(tx *catalog.ReadTx[layers.Layer]) error {
				_, err := tx.All()
				_, idErr := tx.Contradictions()
				return errors.Join(err, idErr)
			})
			sound := test.name == "sound" || test.name == "empty"
			if sound != (readErr == nil) || readErr != nil && !errors.Is(readErr, errdefs.ErrCorrupt) {
				t.Errorf("before: %v", readErr)
			}
			saved, err := cat.Salvage(ctx)
			if err != nil || sound != (len(saved) == 0) {
				t.Fatalf("salvaged %+v, %v", saved, err)
			}
			if !sound {
				if copied, err := os.ReadFile(saved[0].Copy); err != nil || string(copied) != test.data {
					t.Errorf("the copy is %q, %v", copied, err)
				}
			}
			var ids []string
			err = cat.View(ctx, func(tx *catalog.ReadTx[layers.Layer]) error {
				all, err := tx.All()
				for _, l := range all {
					ids = append(ids, l.ID)
				}
				return err
			})
			if err != nil || !slices.Equal(ids, test.want) {
				t.Errorf("kept %v, want %v; %v", ids, test.want, err)
			}
			if again, err := cat.Salvage(ctx); err != nil || len(again) > 0 {
				t.Errorf("once more: %+v, %v", again, err)
			}
		})
	}
}

// Two records with one name or one ID are named, the losers, and are settled as everyone
// reads them.
func TestContradictions(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	const when = `,"created":"0001-01-01T00:00:00Z"}`
	for name, data := range map[string]string{
		"layers.json":          `[{"id":"a","names":["x","y"]` + when + `,{"id":"b","names":["y"]` + when + `]`,
		"volatile-layers.json": `[{"id":"a","names":["z"]` + when + `]`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := layerCatalog(dir)
	var found []catalog.Contradiction
	err := c.Update(ctx, func(tx *catalog.WriteTx[layers.Layer]) (err error) {
		if found, err = tx.Contradictions(); err != nil {
			return err
		}
		return tx.Settle()
	})
	if err != nil || len(found) != 2 || found[0].ID != "a" || found[1].ID != "a" {
		t.Fatalf("%+v, %v", found, err)
	}
	err = layerCatalog(dir).View(ctx, func(tx *catalog.ReadTx[layers.Layer]) (err error) {
		found, err = tx.Contradictions()
		return err
	})
	if err != nil || len(found) > 0 {
		t.Errorf("settled: %+v, %v", found, err)
	}
	data, _ := os.ReadFile(filepath.Join(dir, "layers.json"))
	if want := `[{"id":"a","names":["x"]` + when + `,{"id":"b","names":["y"]` + when + `]`; string(data) != want {
		t.Errorf("%s, want %s", data, want)
	}
}
