package catalog_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/naming"
)

// What a struct can't hold to the byte is kept as it stands in the file when something
// else of the record changes, and what no type of the record can hold is refused.
func TestValuesSurviveAChange(t *testing.T) {
	kept := []string{
		`"flags":{"n":12345678901234567890,"f":1e2}`,
		"\"metadata\":\"not \xff UTF-8 \\ud800\"",
		`"created":"2026-01-02T03:04:05.1000+00:00"`,
		`"compressed-size":-0`,
		`"parent":"\u0070"`,
		`"names":[]`,
		`"uidset":null`,
	}
	for _, member := range kept {
		dir := t.TempDir()
		record := `[{"id":"a",` + member + `,"diff-size":7`
		if !strings.Contains(member, "created") {
			record += "," + stamped
		}
		put(t, dir, "layers.json", record+"}]")
		err := layerCatalog(dir).Update(context.Background(), func(tx *writeTx) error {
			l, err := tx.Get("a")
			if err != nil {
				return err
			}
			l.DiffSize = 8
			return tx.Replace(l)
		})
		if got := content(t, dir, "layers.json"); err != nil || !strings.Contains(got, member) ||
			!strings.Contains(got, `"diff-size":8`) {
			t.Errorf("%s: %v, became %s", member, err, got)
		}
	}
	for _, member := range []string{`"uidset":[-0]`, `"uidset":[1.0]`, `"uidset":[4294967296]`, `"compression":-0.0`} {
		dir := t.TempDir()
		put(t, dir, "layers.json", `[{"id":"a",`+stamped+`,`+member+`}]`)
		err := layerCatalog(dir).View(context.Background(),
			func(tx *readTx) error { _, err := tx.Get("a"); return err })
		if !errors.Is(err, errdefs.ErrCorrupt) {
			t.Errorf("%s: %v", member, err)
		}
	}
}

// A name that could be taken for something else in a list is given to nothing, and one
// that is there already can stay or go.
func TestNamesOfOneLine(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "layers.json", `[{"id":"a","names":["old\nname",""],`+stamped+`}]`)
	c := layerCatalog(dir)
	for _, name := range []string{"", "a\nb", "a\rb", "\x1b[2J", "\xff", "a\u2028b", "a\x00b", "\u0085"} {
		err := c.Update(context.Background(), func(tx *writeTx) error {
			if _, err := tx.CheckFree("n", []string{"fine", name}); !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("a new record with the name %q: %v", name, err)
			}
			l, err := tx.Get("a")
			if err != nil || name == "" { // which it has
				return err
			}
			if err := tx.ChangeNames(l, []string{name}, naming.Add); !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("a further name %q: %v", name, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, change := range []struct {
		names []string
		how   naming.Change
		want  string
	}{
		{[]string{"größer than:1"}, naming.Add, `"names":["größer than:1","old\nname",""]`},
		{[]string{"old\nname"}, naming.Remove, `"names":["größer than:1",""]`},
	} {
		err := c.Update(context.Background(), func(tx *writeTx) error {
			l, err := tx.Get("a")
			if err != nil {
				return err
			}
			return tx.ChangeNames(l, change.names, change.how)
		})
		if got := content(t, dir, "layers.json"); err != nil || !strings.Contains(got, change.want) {
			t.Errorf("%q: %v, %s", change.names, err, got)
		}
	}
}
