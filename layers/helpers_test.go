package layers_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/vfs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// id makes an ID as long as real ones out of a hexadecimal digit.
func id(digit string) string { return strings.Repeat(digit, 64) }

// places is where a store of plain copies lies, which needs no mounts and so leaves this
// package's own work to be seen.
func places(t *testing.T) (root string, cfg layers.Config) {
	t.Helper()
	testutil.Root(t)
	root = t.TempDir()
	return root, layers.Config{
		Dir: filepath.Join(root, "vfs-layers"), RunDir: filepath.Join(root, "run"),
		TempRoots: []string{filepath.Join(root, "vfs", "tempdirs")},
	}
}

// open is a Store with a driver of its own, as another process would have it.
func open(t *testing.T, root string, cfg layers.Config) *layers.Store {
	t.Helper()
	driver, err := vfs.Open(context.Background(), vfs.Options{Place: drivers.Place{Root: root, RunRoot: cfg.RunDir}})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Driver = driver
	s := layers.Open(cfg)
	t.Cleanup(func() { s.Close() })
	return s
}

// tarOf makes a tar of files whose content is their name.
func tarOf(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg,
			Size: int64(len(name))}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, name)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// draft stages a layer with the files of a tar, or none.
func draft(t *testing.T, s *layers.Store, parent *layers.Layer, opts layers.CreateOptions, tar []byte) *layers.Draft {
	t.Helper()
	ctx := context.Background()
	d, err := s.Prepare(ctx, parent, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if tar != nil {
		if err := d.Fill(ctx, bytes.NewReader(tar), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	return d
}

func commit(s *layers.Store, d *layers.Draft) (layer layers.Layer, err error) {
	err = s.Update(context.Background(), func(tx *layers.WriteTx) error {
		layer, err = tx.Commit(context.Background(), d)
		return err
	})
	return layer, errors.Join(err, d.Close(), s.Wait(context.Background()))
}

// add makes a layer.
func add(t *testing.T, s *layers.Store, parent *layers.Layer, opts layers.CreateOptions, tar []byte) layers.Layer {
	t.Helper()
	layer, err := commit(s, draft(t, s, parent, opts, tar))
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

func view(t *testing.T, s *layers.Store, fn func(tx *layers.ReadTx) error) {
	t.Helper()
	if err := s.View(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func update(t *testing.T, s *layers.Store, fn func(tx *layers.WriteTx) error) {
	t.Helper()
	if err := errors.Join(s.Update(context.Background(), fn), s.Wait(context.Background())); err != nil {
		t.Fatal(err)
	}
}

// paths lists what is in the store, but for locks and the directory that holds them, once
// what s has deleted is gone.
func paths(t *testing.T, root string, s *layers.Store) []string {
	t.Helper()
	if err := s.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(testutil.Snapshot(t, root))),
		func(path string) bool { return path == "run" || strings.HasSuffix(path, ".lock") })
}
