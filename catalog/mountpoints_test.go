package catalog_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/catalog"
)

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
	a, b := catalog.Mountpoint{ID: "a", Path: "/r/a/merged", Count: 1}, catalog.Mountpoint{ID: "b", Path: "/r/b/merged",
		Count: 2}
	set(a, b)
	if got, want := content(t, dir, "mountpoints.json"),
		`[{"id":"a","path":"/r/a/merged","count":1},{"id":"b","path":"/r/b/merged","count":2}]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	a.Count = 5
	b.Count = 0
	set(a, b, catalog.Mountpoint{ID: "never", Count: 0})
	if got, want := content(t, dir, "mountpoints.json"), `[{"id":"a","path":"/r/a/merged","count":5}]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := os.WriteFile(path,
		[]byte(`[{"id":"a","path":"/r/a/merged","count":5},{"id":"b","path":"/b","count":0},{"id":"c","count":1}]`),
		0o600); err != nil {
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
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	set(catalog.Mountpoint{ID: "c", Path: "/c", Count: 1})
	if got, want := content(t, dir, "mountpoints.json"),
		`[{"id":"a","path":"/r/a/merged","count":5},{"id":"c","path":"/c","count":1}]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
