package catalog_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
)

func TestNamesBelongToTheLaterRecord(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	put(t, dir, "layers.json", `[{"id":"a","names":["one","two"],`+stamped+`},{"id":"b","names":["two","three"],`+
		stamped+`}]`)
	put(t, dir, "volatile-layers.json", `[{"id":"v","names":["three"],`+stamped+`}]`)
	check := func(c *catalog.Catalog[layers.Layer]) {
		t.Helper()
		view(t, c, func(tx *readTx) error {
			for name, id := range map[string]string{"one": "a", "two": "b", "three": "v"} {
				if r, err := tx.Named(name); r.ID != id || err != nil {
					t.Errorf("%s is %q, %v, want %q", name, r.ID, err, id)
				}
			}
			for id, names := range map[string][]string{"a": {"one"}, "b": {"two"}, "v": {"three"}} {
				if r, err := tx.Get(id); !slices.Equal(r.Names, names) || err != nil {
					t.Errorf("%s has names %q, %v, want %q", id, r.Names, err, names)
				}
			}
			return nil
		})
	}
	check(c)
	// Reading changed no file; the next save, of whatever, settles it for all.
	if got := content(t, dir, "layers.json"); strings.Count(got, "two") != 2 {
		t.Errorf("a read wrote: %s", got)
	}
	update(t, c, func(tx *writeTx) error { return tx.Insert(layers.Layer{ID: "n"}, 1) })
	if got, want := content(t, dir, "layers.json"), `[{"id":"a","names":["one"],`+stamped+
		`},{"id":"b","names":["two"],`+stamped+`}]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	check(c)
	check(layerCatalog(dir))
}

func TestNamesMove(t *testing.T) {
	c := layerCatalog(t.TempDir())
	update(t, c, func(tx *writeTx) error {
		return errors.Join(tx.Insert(layers.Layer{ID: "a", Names: []string{"x", "y"}}, 0),
			tx.Insert(layers.Layer{ID: "b"}, 0))
	})
	update(t, c, func(tx *writeTx) error {
		if err := tx.Replace(layers.Layer{ID: "b", Names: []string{"x"}}); !errors.Is(err, errdefs.ErrDuplicateName) {
			t.Errorf("taking a name: %v, want ErrDuplicateName", err)
		}
		return errors.Join(tx.Replace(layers.Layer{ID: "a", Names: []string{"y"}}),
			tx.Replace(layers.Layer{ID: "b", Names: []string{"x"}}))
	})
	update(t, c, func(tx *writeTx) error {
		return errors.Join(tx.Remove("a"), tx.Insert(layers.Layer{ID: "c", Names: []string{"y"}}, 0))
	})
	view(t, c, func(tx *readTx) error {
		for name, id := range map[string]string{"x": "b", "y": "c"} {
			if r, err := tx.Lookup(name); r.ID != id || err != nil {
				t.Errorf("%s is %q, %v, want %q", name, r.ID, err, id)
			}
		}
		return nil
	})
}

func TestDuplicateIDs(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	put(t, dir, "layers.json", `[{"id":"a","metadata":"first",`+stamped+`},{"id":"b",`+stamped+`}]`)
	put(t, dir, "volatile-layers.json", `[{"id":"a","metadata":"second",`+stamped+`},{"id":"v",`+stamped+`}]`)
	view(t, c, func(tx *readTx) error {
		all, err := tx.All()
		if ids(all) != "a b v" || all[0].Metadata != "first" {
			t.Errorf("records %+v", all)
		}
		return err
	})
	// Removing the first must not bring the second to light.
	update(t, c, func(tx *writeTx) error { return tx.Remove("a") })
	for _, c := range []*catalog.Catalog[layers.Layer]{c, layerCatalog(dir)} {
		view(t, c, func(tx *readTx) error {
			all, err := tx.All()
			if ids(all) != "b v" {
				t.Errorf("records %q after the removal", ids(all))
			}
			return err
		})
	}
}

func TestHiddenRecords(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	put(t, dir, "layers.json", `[{"id":"abc","names":["n"],"parent":"p",`+stamped+`,"flags":{"incomplete":true}},`+
		`{"id":"abd",`+stamped+`,"flags":{"incomplete":false,"x":1}},{"id":"u",`+stamped+
		`,"flags":{"incom\u0070lete":true}}]`)
	update(t, c, func(tx *writeTx) error {
		for _, ref := range []string{"abc", "n", "u"} {
			if r, err := tx.Lookup(ref); !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("%s: %v, %v, want ErrNotFound", ref, r.ID, err)
			}
		}
		if r, err := tx.Lookup("ab"); r.ID != "abd" || err != nil {
			t.Errorf("prefix ab: %q, %v", r.ID, err)
		}
		if found, err := tx.Find("parent", "p"); len(found) > 0 || err != nil {
			t.Errorf("children of p: %v, %v", found, err)
		}
		if all, err := tx.All(); ids(all) != "abd" || err != nil {
			t.Errorf("all: %q, %v", ids(all), err)
		}
		hidden, err := tx.Hidden()
		if ids(hidden) != "abc u" || err != nil {
			t.Errorf("hidden: %q, %v", ids(hidden), err)
		}
		if err := tx.Insert(layers.Layer{ID: "abc"}, 0); !errors.Is(err, errdefs.ErrDuplicateID) {
			t.Errorf("inserting over a hidden record: %v", err)
		}
		for _, r := range hidden {
			if err := tx.Remove(r.ID); err != nil {
				return err
			}
		}
		return tx.Insert(layers.Layer{ID: "abc", Names: []string{"n"}}, 0)
	})
	view(t, c, func(tx *readTx) error {
		hidden, err := tx.Hidden()
		if r, lerr := tx.Lookup("n"); r.ID != "abc" || len(hidden) > 0 || lerr != nil {
			t.Errorf("%q, %v, hidden %v", r.ID, lerr, hidden)
		}
		return err
	})
}

func TestFindWhateverTheSpelling(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	put(t, dir, "layers.json", `[{"id":"a","parent":"p/q",`+stamped+`},{"id":"b","parent":"p\/q",`+stamped+
		`},{"id":"c","parent":"\u0070/q",`+stamped+`},`+
		`{"id":"d","metadata":"p/q",`+stamped+`},{"id":"e","parent":"<ä>",`+stamped+
		`},{"id":"f","parent":"\u003cä\u003e",`+stamped+`}]`)
	view(t, c, func(tx *readTx) error {
		for value, want := range map[string]string{"p/q": "a b c", "<ä>": "e f", "": "d", "x": ""} {
			if found, err := tx.Find("parent", value); ids(found) != want || err != nil {
				t.Errorf("children of %q: %q, %v, want %q", value, ids(found), err, want)
			}
		}
		return nil
	})
}
