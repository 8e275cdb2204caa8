package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/layers"
	"golang.org/x/sys/unix"
)

type (
	readTx  = catalog.ReadTx[layers.Layer]
	writeTx = catalog.WriteTx[layers.Layer]
)

func view(t *testing.T, c *catalog.Catalog[layers.Layer], fn func(tx *readTx) error) {
	t.Helper()
	if err := c.View(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func update(t *testing.T, c *catalog.Catalog[layers.Layer], fn func(tx *writeTx) error) {
	t.Helper()
	if err := c.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

// put writes a file as another program does: the token, then the file by rename.
func put(t *testing.T, dir, name, content string) {
	t.Helper()
	l, err := lockfile.Acquire(context.Background(), filepath.Join(dir, "layers.lock"), lockfile.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if _, err := l.Touch(); err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(dir, "other")
	if err := os.WriteFile(tmp, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func ids(records []layers.Layer) string {
	var ids []string
	for _, r := range records {
		ids = append(ids, r.ID)
	}
	return strings.Join(ids, " ")
}

const stamped = `"created":"2026-01-02T03:04:05Z"`

func TestUnchangedRecordsKeepTheirBytes(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	odd := `{ "created" : "2026-01-02T03:04:05+01:00", "ID":"odd", "future":{"a":[1, 2]}, "metadata":"<&>" }`
	put(t, dir, "layers.json", "[\n"+odd+` , {"id":"b",`+stamped+"}\n]\n")
	update(t, c, func(tx *writeTx) error {
		r, err := tx.Get("b")
		if err != nil {
			return err
		}
		r.Metadata = "<new>"
		return tx.Replace(r)
	})
	if got, want := content(t, dir, "layers.json"), `[`+odd+`,{"id":"b","metadata":"\u003cnew\u003e",`+stamped+`}]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := os.Lstat(filepath.Join(dir, "volatile-layers.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file without a change was written: %v", err)
	}
}

func TestUnknownMembersSurvive(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	put(t, dir, "layers.json", `[{"future":{"a": [1, 2]},"id":"a","NAMES":["x"],"created":"2026-01-02T03:04:05Z","\u0074omorrow":null,"Metadata":"old"}]`)
	for range 2 {
		update(t, c, func(tx *writeTx) error {
			r, err := tx.Lookup("x")
			if err != nil {
				return err
			}
			r.Metadata = "new"
			return tx.Replace(r)
		})
		want := `[{"id":"a","names":["x"],"metadata":"new",` + stamped + `,"future":{"a": [1, 2]},"\u0074omorrow":null}]`
		if got := content(t, dir, "layers.json"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestSeesWhatOthersWrite(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	list := func(want string) {
		t.Helper()
		view(t, c, func(tx *readTx) error {
			all, err := tx.All()
			if got := ids(all); got != want {
				t.Errorf("records %q, want %q", got, want)
			}
			return err
		})
	}
	list("")
	put(t, dir, "layers.json", `[{"id":"a",`+stamped+`}]`)
	list("a")
	put(t, dir, "layers.json", `[{"id":"b",`+stamped+`}]`) // the same size, perhaps within one tick of the clock
	list("b")
	put(t, dir, "volatile-layers.json", `[{"id":"v",`+stamped+`}]`)
	list("b v")
	put(t, dir, "layers.json", ``)
	list("v")

	// Someone who puts a copy back by hand knows nothing of tokens.
	path := filepath.Join(dir, "layers.json")
	if err := os.WriteFile(path, []byte(`[{"id":"c",`+stamped+`}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	list("c v")
	before := time.Unix(1_000_000_000, 0)
	if err := os.WriteFile(path, []byte(`[{"id":"d",`+stamped+`}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, before, before); err != nil { // back in time, too
		t.Fatal(err)
	}
	list("d v")
	os.Remove(path)
	list("v")
}

func TestOwnWritesAreNotReadAgain(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	update(t, c, func(tx *writeTx) error { return tx.Insert(layers.Layer{ID: "a"}, 0) })
	// A file that can't be read, put there in a way nobody could notice: same inode, size and times.
	path := filepath.Join(dir, "layers.json")
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("!")
	f.Close()
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
		t.Fatal(err)
	}
	view(t, c, func(tx *readTx) error { _, err := tx.Get("a"); return err })
}

func TestNamesBelongToTheLaterRecord(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	put(t, dir, "layers.json", `[{"id":"a","names":["one","two"],`+stamped+`},{"id":"b","names":["two","three"],`+stamped+`}]`)
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
	if got, want := content(t, dir, "layers.json"), `[{"id":"a","names":["one"],`+stamped+`},{"id":"b","names":["two"],`+stamped+`}]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	check(c)
	check(layerCatalog(dir))
}

func TestNamesMove(t *testing.T) {
	c := layerCatalog(t.TempDir())
	update(t, c, func(tx *writeTx) error {
		return errors.Join(tx.Insert(layers.Layer{ID: "a", Names: []string{"x", "y"}}, 0), tx.Insert(layers.Layer{ID: "b"}, 0))
	})
	update(t, c, func(tx *writeTx) error {
		if err := tx.Replace(layers.Layer{ID: "b", Names: []string{"x"}}); !errors.Is(err, errdefs.ErrDuplicateName) {
			t.Errorf("taking a name: %v, want ErrDuplicateName", err)
		}
		return errors.Join(tx.Replace(layers.Layer{ID: "a", Names: []string{"y"}}), tx.Replace(layers.Layer{ID: "b", Names: []string{"x"}}))
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
		`{"id":"abd",`+stamped+`,"flags":{"incomplete":false,"x":1}},{"id":"u",`+stamped+`,"flags":{"incom\u0070lete":true}}]`)
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
	put(t, dir, "layers.json", `[{"id":"a","parent":"p/q",`+stamped+`},{"id":"b","parent":"p\/q",`+stamped+`},{"id":"c","parent":"\u0070/q",`+stamped+`},`+
		`{"id":"d","metadata":"p/q",`+stamped+`},{"id":"e","parent":"<ä>",`+stamped+`},{"id":"f","parent":"\u003cä\u003e",`+stamped+`}]`)
	view(t, c, func(tx *readTx) error {
		for value, want := range map[string]string{"p/q": "a b c", "<ä>": "e f", "": "d", "x": ""} {
			if found, err := tx.Find("parent", value); ids(found) != want || err != nil {
				t.Errorf("children of %q: %q, %v, want %q", value, ids(found), err, want)
			}
		}
		return nil
	})
}

// When the closure fails nothing has happened: not in the files, not for the next transaction, and no reader reloads.
func TestFailedUpdate(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	update(t, c, func(tx *writeTx) error { return tx.Insert(layers.Layer{ID: "a", Names: []string{"x"}}, 0) })
	json, lock := content(t, dir, "layers.json"), content(t, dir, "layers.lock")
	stop := errors.New("stop")
	change := func(tx *writeTx) error {
		return errors.Join(tx.Remove("a"), tx.Insert(layers.Layer{ID: "b", Names: []string{"x"}}, 1), stop)
	}
	if err := c.Update(context.Background(), change); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	func() {
		defer func() { recover() }()
		c.Update(context.Background(), func(tx *writeTx) error { change(tx); panic("in the middle") })
	}()
	if content(t, dir, "layers.json") != json || content(t, dir, "layers.lock") != lock {
		t.Error("a failed update has written")
	}
	view(t, c, func(tx *readTx) error {
		all, err := tx.All()
		if r, lerr := tx.Lookup("x"); ids(all) != "a" || r.ID != "a" || lerr != nil {
			t.Errorf("records %q, x is %q, %v", ids(all), r.ID, lerr)
		}
		return err
	})
}

func TestSaveInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	stop := errors.New("stop")
	err := c.Update(context.Background(), func(tx *writeTx) error {
		if err := tx.Insert(layers.Layer{ID: "saved"}, 0); err != nil {
			return err
		}
		if err := tx.Save(); err != nil {
			return err
		}
		if !strings.Contains(content(t, dir, "layers.json"), "saved") {
			t.Error("not on disk after Save")
		}
		lock := content(t, dir, "layers.lock")
		if err := tx.Save(); err != nil || content(t, dir, "layers.lock") != lock {
			t.Errorf("a Save of nothing wrote: %v", err)
		}
		return errors.Join(tx.Insert(layers.Layer{ID: "lost"}, 0), stop)
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	view(t, c, func(tx *readTx) error {
		all, err := tx.All()
		if ids(all) != "saved" {
			t.Errorf("records %q", ids(all))
		}
		return err
	})
}

func TestTransactionEnds(t *testing.T) {
	c := layerCatalog(t.TempDir())
	var r *readTx
	var w *writeTx
	update(t, c, func(tx *writeTx) error { w = tx; return nil })
	view(t, c, func(tx *readTx) error { r = tx; return nil })
	for name, use := range map[string]func() error{
		"Get":     func() error { _, err := r.Get("a"); return err },
		"Lookup":  func() error { _, err := r.Lookup("a"); return err },
		"Named":   func() error { _, err := r.Named("a"); return err },
		"Find":    func() error { _, err := r.Find("parent", "a"); return err },
		"All":     func() error { _, err := r.All(); return err },
		"Hidden":  func() error { _, err := w.Hidden(); return err },
		"FileOf":  func() error { _, err := w.FileOf("a"); return err },
		"Insert":  func() error { return w.Insert(layers.Layer{ID: "a"}, 0) },
		"Replace": func() error { return w.Replace(layers.Layer{ID: "a"}) },
		"Remove":  func() error { return w.Remove("a") },
		"Save":    func() error { return w.Save() },
	} {
		if err := use(); !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "over") {
			t.Errorf("%s after the end: %v", name, err)
		}
	}
}

func TestInvalidRecords(t *testing.T) {
	c := layerCatalog(t.TempDir())
	update(t, c, func(tx *writeTx) error {
		for _, r := range []layers.Layer{{}, {ID: "\xff"}, {ID: "flags", Flags: map[string]any{"x": func() {}}}} {
			if err := tx.Insert(r, 0); !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("%q: %v, want ErrInvalid", r.ID, err)
			}
		}
		if err := tx.Insert(layers.Layer{ID: "a"}, 2); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("into a third file: %v, want ErrInvalid", err)
		}
		if err := tx.Replace(layers.Layer{ID: "a"}); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("replacing nothing: %v, want ErrNotFound", err)
		}
		if err := tx.Remove("a"); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("removing nothing: %v, want ErrNotFound", err)
		}
		return nil
	})
}

func TestWaitEndsWithTheContext(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	l, err := lockfile.Acquire(context.Background(), filepath.Join(dir, "layers.lock"), lockfile.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := c.View(ctx, func(*readTx) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("View: %v", err)
	}
	if err := c.Update(ctx, func(*writeTx) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Update: %v", err)
	}
}

func TestDamageIsRefusedAndLeftAlone(t *testing.T) {
	for _, tt := range []struct{ name, data, want string }{
		{"cut short", `[{"id":"a",` + stamped + `},{"id":"b`, "byte 53 (line 1): expected the end of a string, the file ends there"},
		{"zeros after a power cut", strings.Repeat("\x00", 100), `byte 0 (line 1): expected an array of records, found "\x00`},
		{"on the third line", "[\n{\"id\":\"a\"},\n{\"id\":}\n]", `byte 20 (line 3): expected a value, found "}`},
		{"not an array", `{"id":"a"}`, "byte 0 (line 1): expected an array"},
		{"two arrays", `[][]`, "byte 2 (line 1): expected nothing after the array"},
		{"ID of the wrong type", `[{"id":7}]`, "byte 7 (line 1): expected a string as the ID"},
		{"too deep", `[{"id":"a","x":` + strings.Repeat("[", 5000), "less nesting"},
		{"field of the wrong type", `[{"id":"a","created":1}]`, `layer "a"`},
		{"names of the wrong type", `[{"id":"a","names":"n",` + stamped + `}]`, `layer "a"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, "layers.json", tt.data)
			put(t, dir, "volatile-layers.json", `[{"id":"v",`+stamped+`}]`)
			c := layerCatalog(dir)
			for range 2 {
				err := c.View(context.Background(), func(tx *readTx) error { _, err := tx.All(); return err })
				if !errors.Is(err, errdefs.ErrCorrupt) || !strings.Contains(err.Error(), tt.want) ||
					!strings.Contains(err.Error(), filepath.Join(dir, "layers.json")) || !strings.Contains(err.Error(), "repair") {
					t.Errorf("View: %v, want %q", err, tt.want)
				}
				err = c.Update(context.Background(), func(tx *writeTx) error {
					if _, err := tx.All(); err != nil {
						return err
					}
					return tx.Insert(layers.Layer{ID: "n"}, 0)
				})
				if !errors.Is(err, errdefs.ErrCorrupt) {
					t.Errorf("Update: %v, want ErrCorrupt", err)
				}
			}
			if got := content(t, dir, "layers.json"); got != tt.data {
				t.Errorf("the file was changed to %q", got)
			}
			// Once it is repaired all is well, without a new process.
			put(t, dir, "layers.json", `[]`)
			view(t, c, func(tx *readTx) error { _, err := tx.Get("v"); return err })
		})
	}
}

func TestNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "layers.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := layerCatalog(dir).View(context.Background(), func(*readTx) error { return nil })
	if !errors.Is(err, errdefs.ErrCorrupt) || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a FIFO: %v", err)
	}
}

// Two catalogs of one process and several goroutines on each: none loses an update of another.
func TestConcurrentUpdates(t *testing.T) {
	dir := t.TempDir()
	cs := []*catalog.Catalog[layers.Layer]{layerCatalog(dir), layerCatalog(dir)}
	const workers, rounds = 6, 30
	errs := make(chan error)
	for w := range workers {
		go func() {
			errs <- func() error {
				for i := range rounds {
					id := fmt.Sprintf("%d-%d", w, i)
					if err := cs[w%2].Update(context.Background(), func(tx *writeTx) error {
						return tx.Insert(layers.Layer{ID: id, Names: []string{"name " + id}}, i%2)
					}); err != nil {
						return err
					}
					if err := cs[(w+1)%2].View(context.Background(), func(tx *readTx) error {
						_, err := tx.Named("name " + id)
						return err
					}); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	view(t, layerCatalog(dir), func(tx *readTx) error {
		all, err := tx.All()
		if len(all) != workers*rounds {
			t.Errorf("%d records, want %d", len(all), workers*rounds)
		}
		return err
	})
}

func TestRecordsComeBackWhole(t *testing.T) {
	c := layerCatalog(t.TempDir())
	want := imageLayer(7)
	want.Names = []string{"quo\"te", "ä<>&\u2028", "\t"}
	want.Flags = map[string]any{"MountOpts": []any{"a", "b"}, "x": map[string]any{"y": 1.5}, "z": nil}
	want.Metadata = strings.Repeat("long ", 1000)
	update(t, c, func(tx *writeTx) error { return tx.Insert(want, 0) })
	view(t, c, func(tx *readTx) error {
		got, err := tx.Get(want.ID)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		return err
	})
}

func TestMountpoints(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mountpoints.json")
	m := catalog.NewMountpoints(filepath.Join(dir, "mountpoints.lock"), path)
	set := func(mounts ...catalog.Mountpoint) {
		t.Helper()
		err := m.Update(context.Background(), func(tx *catalog.MountsWriteTx) error {
			for _, mp := range mounts {
				if err := tx.Set(mp); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	a, b := catalog.Mountpoint{ID: "a", Path: "/r/a/merged", Count: 1}, catalog.Mountpoint{ID: "b", Path: "/r/b/merged", Count: 2}
	set(a, b)
	if got, want := content(t, dir, "mountpoints.json"), `[{"id":"a","path":"/r/a/merged","count":1},{"id":"b","path":"/r/b/merged","count":2}]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	a.Count = 5
	b.Count = 0
	set(a, b, catalog.Mountpoint{ID: "never", Count: 0})
	if got, want := content(t, dir, "mountpoints.json"), `[{"id":"a","path":"/r/a/merged","count":5}]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := os.WriteFile(path, []byte(`[{"id":"a","path":"/r/a/merged","count":5},{"id":"b","path":"/b","count":0},{"id":"c","count":1}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	err := m.View(context.Background(), func(tx *catalog.MountsTx) error {
		all, err := tx.All()
		if len(all) != 1 || all[0] != a || err != nil {
			t.Errorf("all: %v, %v", all, err)
		}
		if got, err := tx.Get("b"); got != (catalog.Mountpoint{ID: "b"}) || err != nil {
			t.Errorf("b: %v, %v", got, err)
		}
		if got, err := tx.At("/r/a/merged"); got != a || err != nil {
			t.Errorf("at a's path: %v, %v", got, err)
		}
		_, err = tx.At("/elsewhere")
		if !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("elsewhere: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	set(catalog.Mountpoint{ID: "c", Path: "/c", Count: 1})
	if got, want := content(t, dir, "mountpoints.json"), `[{"id":"a","path":"/r/a/merged","count":5},{"id":"c","path":"/c","count":1}]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
