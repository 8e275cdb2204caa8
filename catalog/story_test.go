package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
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

// touch writes a new token, and nothing else.
func touch(t *testing.T, dir string) {
	t.Helper()
	l, err := lockfile.Acquire(context.Background(), filepath.Join(dir, "layers.lock"), lockfile.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if _, err := l.Touch(); err != nil {
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
	if got, want := content(t, dir, "layers.json"), `[`+odd+`,{"id":"b","metadata":"\u003cnew\u003e",`+stamped+
		`}]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := os.Lstat(filepath.Join(dir, "volatile-layers.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file without a change was written: %v", err)
	}
}

func TestUnknownMembersSurvive(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	put(t, dir, "layers.json",
		`[{"future":{"a": [1, 2]},"id":"a","NAMES":["x"],"created":"2026-01-02T03:04:05Z","\u0074omorrow":null,`+
			`"Metadata":"old"}]`)
	for range 2 {
		update(t, c, func(tx *writeTx) error {
			r, err := tx.Lookup("x")
			if err != nil {
				return err
			}
			r.Metadata = "new"
			return tx.Replace(r)
		})
		want := `[{"id":"a","names":["x"],"metadata":"new",` + stamped +
			`,"future":{"a": [1, 2]},"\u0074omorrow":null}]`
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

	// A new token is enough, even if the file looks the same from outside.
	path := filepath.Join(dir, "volatile-layers.json")
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`[{"id":"w",`+stamped+`}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
		t.Fatal(err)
	}
	touch(t, dir)
	list("w")

	// Someone who puts a copy back by hand knows nothing of tokens.
	path = filepath.Join(dir, "layers.json")
	if err := os.WriteFile(path, []byte(`[{"id":"c",`+stamped+`}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	list("c w")
	before := time.Unix(1_000_000_000, 0)
	if err := os.WriteFile(path, []byte(`[{"id":"d",`+stamped+`}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, before, before); err != nil { // back in time, too
		t.Fatal(err)
	}
	list("d w")
	os.Remove(path)
	list("w")
}

func TestOwnWritesAreNotReadAgain(t *testing.T) {
	dir := t.TempDir()
	c := layerCatalog(dir)
	update(t, c, func(tx *writeTx) error { return tx.Insert(layers.Layer{ID: "a"}, 0) })
	// A file that can't be read, put there in a way nobody could notice: same inode, size
	// and times.
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

// When the closure fails nothing has happened: not in the files, not for the next
// transaction, and no reader reloads.
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
		defer func() { _ = recover() }()
		_ = c.Update(context.Background(), func(tx *writeTx) error { _ = change(tx); panic("in the middle") })
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

// Two catalogs of one process and several goroutines on each: none loses an update of
// another.
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
