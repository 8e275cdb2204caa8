package catalog_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/errdefs"
)

// small is a record with little in it, so that random changes meet often.
type small struct {
	ID    string   `json:"id"`
	Names []string `json:"names,omitempty"`
	Group string   `json:"group,omitempty"`
}

func smallCatalog(dir string) *catalog.Catalog[small] {
	return catalog.New(catalog.Schema[small]{
		Kind:     "thing",
		ID:       func(s *small) string { return s.ID },
		Names:    func(s *small) []string { return s.Names },
		SetNames: func(s *small, names []string) { s.Names = names },
		Keys:     func(s *small) []catalog.Key { return []catalog.Key{{Kind: "group", Value: s.Group}} },
	}, filepath.Join(dir, "layers.lock"),
		catalog.File{Path: filepath.Join(dir, "0.json"), Volatile: true},
		catalog.File{Path: filepath.Join(dir, "1.json"), Volatile: true})
}

// model is what the files should hold, done the plain way.
type model [2][]small

func (m *model) all() []small { return slices.Concat(m[0], m[1]) }

func (m *model) clone() *model {
	c := &model{}
	for i := range m {
		for _, s := range m[i] {
			s.Names = slices.Clone(s.Names)
			c[i] = append(c[i], s)
		}
	}
	return c
}

func (m *model) owner(name string) string {
	for _, s := range m.all() {
		if slices.Contains(s.Names, name) {
			return s.ID
		}
	}
	return ""
}

func (m *model) at(id string) (file, i int) {
	for file := range m {
		if i := slices.IndexFunc(m[file], func(s small) bool { return s.ID == id }); i >= 0 {
			return file, i
		}
	}
	return -1, -1
}

// clash says which error a record with names should meet, if any.
func (m *model) clash(s small) bool {
	return slices.ContainsFunc(s.Names, func(n string) bool { o := m.owner(n); return o != "" && o != s.ID })
}

// Random changes by two catalogs that live on and by a program that rewrites the files
// give what the model says, at every step, for them and for a newcomer.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		dir := t.TempDir()
		catalogs := []*catalog.Catalog[small]{smallCatalog(dir), smallCatalog(dir)}
		m := &model{}
		for step := range 120 {
			if rnd.IntN(10) == 0 {
				rewrite(t, rnd, dir, m)
			} else {
				m = change(t, rnd, catalogs[rnd.IntN(2)], m)
			}
			for _, c := range []*catalog.Catalog[small]{catalogs[rnd.IntN(2)], smallCatalog(dir)} {
				if compare(t, rnd, c, m); t.Failed() {
					t.Fatalf("seed %d, step %d", seed, step)
				}
			}
		}
	}
}

func randomRecord(rnd *rand.Rand) small {
	s := small{ID: fmt.Sprintf("%02x", rnd.IntN(40)), Group: []string{"", "red", "a/b", "<&>"}[rnd.IntN(4)]}
	for range rnd.IntN(3) {
		if n := fmt.Sprint("n", rnd.IntN(30)); !slices.Contains(s.Names, n) {
			s.Names = append(s.Names, n)
		}
	}
	return s
}

// change makes a transaction of some random changes, and what they should do to the
// model.
func change(t *testing.T, rnd *rand.Rand, c *catalog.Catalog[small], m *model) *model {
	t.Helper()
	next, stop := m.clone(), errors.New("stop")
	saved := m
	err := c.Update(context.Background(), func(tx *catalog.WriteTx[small]) error {
		for range 1 + rnd.IntN(5) {
			s := randomRecord(rnd)
			file, i := next.at(s.ID)
			switch rnd.IntN(4) {
			case 0, 1:
				into := rnd.IntN(2)
				err := tx.Insert(s, into)
				switch {
				case i >= 0:
					expect(t, err, errdefs.ErrDuplicateID)
				case next.clash(s):
					expect(t, err, errdefs.ErrDuplicateName)
				default:
					expect(t, err, nil)
					next[into] = append(next[into], s)
				}
			case 2:
				err := tx.Replace(s)
				switch {
				case i < 0:
					expect(t, err, errdefs.ErrNotFound)
				case next.clash(s):
					expect(t, err, errdefs.ErrDuplicateName)
				default:
					expect(t, err, nil)
					next[file][i] = s
				}
			case 3:
				err := tx.Remove(s.ID)
				if i < 0 {
					expect(t, err, errdefs.ErrNotFound)
				} else {
					expect(t, err, nil)
					next[file] = slices.Delete(next[file], i, i+1)
				}
			}
			if rnd.IntN(10) == 0 {
				expect(t, tx.Save(), nil)
				saved = next.clone()
			}
		}
		if rnd.IntN(6) == 0 {
			return stop
		}
		return nil
	})
	if errors.Is(err, stop) {
		return saved
	}
	expect(t, err, nil)
	return next
}

func expect(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// rewrite is another program: it decodes a file, changes something and writes it whole,
// indented for a change.
func rewrite(t *testing.T, rnd *rand.Rand, dir string, m *model) {
	t.Helper()
	file := rnd.IntN(2)
	rnd.Shuffle(len(m[file]), func(i, j int) { m[file][i], m[file][j] = m[file][j], m[file][i] })
	data, err := json.MarshalIndent(m[file], "", " ")
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, fmt.Sprint(file, ".json"), string(data))
}

func compare(t *testing.T, rnd *rand.Rand, c *catalog.Catalog[small], m *model) {
	t.Helper()
	err := c.View(context.Background(), func(tx *catalog.ReadTx[small]) error {
		all, err := tx.All()
		if want := m.all(); err != nil || len(all)+len(want) > 0 && !reflect.DeepEqual(all, want) {
			t.Errorf("records %v, %v\nwant    %v", all, err, want)
		}
		for range 5 {
			s := randomRecord(rnd)
			file, i := m.at(s.ID)
			got, err := tx.Get(s.ID)
			if i < 0 {
				expect(t, err, errdefs.ErrNotFound)
			} else if want := m[file][i]; err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("Get(%s) is %v, %v, want %v", s.ID, got, err, want)
			}
			for _, name := range s.Names {
				if got, err := tx.Named(name); got.ID != m.owner(name) {
					t.Errorf("%s is %q, %v, want %q", name, got.ID, err, m.owner(name))
				}
			}
			var group, prefix []string
			for _, r := range m.all() {
				if r.Group == s.Group {
					group = append(group, r.ID)
				}
				if strings.HasPrefix(r.ID, s.ID[:1]) {
					prefix = append(prefix, r.ID)
				}
			}
			found, err := tx.Find("group", s.Group)
			if len(found) != len(group) || slices.ContainsFunc(found,
				func(r small) bool { return !slices.Contains(group, r.ID) }) {
				t.Errorf("group %q is %v, %v, want %v", s.Group, found, err, group)
			}
			if got, err := tx.Lookup(s.ID[:1]); (err == nil) != (len(prefix) == 1) || err == nil &&
				got.ID != prefix[0] {
				t.Errorf("prefix %s is %q, %v, want one of %v", s.ID[:1], got.ID, err, prefix)
			}
		}
		return nil
	})
	expect(t, err, nil)
}
