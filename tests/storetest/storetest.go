// Package storetest makes stores for the tests of package store and of what stands on it.
package storetest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/mount"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"golang.org/x/sys/unix"
)

// Roots makes a graph root and a run root, in memory: every operation syncs its file
// system, and on a disk it would wait for what others write there. What a failed test
// leaves mounted is unmounted.
func Roots(t *testing.T) config.Config {
	t.Helper()
	testutil.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755,size=256m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	return config.Config{GraphRoot: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), Driver: "overlay"}
}

// Open opens a store that is closed when the test ends.
func Open(t *testing.T, cfg config.Config) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// ID makes an ID as long as real ones out of a short word.
func ID(word string) string {
	return (hex.EncodeToString([]byte(word)) + strings.Repeat("e", 64))[:64]
}

// LayerTar makes a tar: names that end in a slash are directories, others files whose
// content is their name, whiteouts are empty. Each has an owner of its own, unless the
// tests run as a user who has one ID only.
func LayerTar(t testing.TB, names ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for n, name := range names {
		if testutil.SingleID() {
			n = 0
		}
		h := &tar.Header{Name: name, Mode: 0o644, Uid: n, Gid: 2 * n, Typeflag: tar.TypeReg, Size: int64(len(name))}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0o755, 0
		}
		if strings.HasPrefix(filepath.Base(name), ".wh.") {
			h.Size = 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			w.Write([]byte(name))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// WriteTar writes a tar with one file of so many bytes.
func WriteTar(w io.Writer, name string, size int64) error {
	t := tar.NewWriter(w)
	err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Typeflag: tar.TypeReg, Size: size})
	if err == nil {
		_, err = io.CopyN(t, rand.NewChaCha8([32]byte{}), size)
	}
	return errors.Join(err, t.Close())
}

// Import imports a tar and fails the test if that fails.
func Import(t testing.TB, s *store.Store, id, parent string, tar []byte, names ...string) layers.Layer {
	t.Helper()
	l, err := s.ImportLayer(context.Background(), layers.CreateOptions{ID: id, Parent: parent, Names: names},
		bytes.NewReader(tar), nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Export returns a layer's tar.
func Export(t testing.TB, s *store.Store, ref string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.Diff(context.Background(), &out, ref, "", store.DiffOptions{}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// NoGarbage fails the test if Check finds anything, damage or garbage.
func NoGarbage(t testing.TB, s *store.Store) {
	t.Helper()
	g, err := fsck.Check(context.Background(), s, fsck.CheckOptions{})
	if err != nil || !g.Empty() {
		t.Fatalf("not sound: %+v, %v", g.Findings, err)
	}
}

// IsMounted fails the test if the kernel doesn't say.
func IsMounted(t testing.TB, path string) bool {
	t.Helper()
	mounted, err := mount.IsMountPoint(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return mounted
}

// Look is View for a function with a result.
func Look[T any](s *store.Store, find func(*store.ReadTx) (T, error)) (found T, err error) {
	err = s.View(context.Background(), func(tx *store.ReadTx) error {
		found, err = find(tx)
		return err
	})
	return found, err
}

// Change is Update without a context.
func Change(s *store.Store, fn func(*store.WriteTx) error) error {
	return s.Update(context.Background(), fn)
}

// Layers lists them in a transaction of its own, as the next ones do.
func Layers(s *store.Store) ([]layers.Layer, error) { return Look(s, (*store.ReadTx).Layers) }

// Images is Layers for images.
func Images(s *store.Store) ([]images.Image, error) { return Look(s, (*store.ReadTx).Images) }

// Containers is Layers for containers.
func Containers(s *store.Store) ([]containers.Container, error) {
	return Look(s, (*store.ReadTx).Containers)
}

// Layer looks one up by ID or name, in a transaction of its own, as the next ones do.
func Layer(s *store.Store, ref string) (layers.Layer, error) {
	return Look(s, func(tx *store.ReadTx) (layers.Layer, error) { return tx.Layer(ref) })
}

// Image is Layer for an image.
func Image(s *store.Store, ref string) (images.Image, error) {
	return Look(s, func(tx *store.ReadTx) (images.Image, error) { return tx.Image(ref) })
}

// Container is Layer for a container.
func Container(s *store.Store, ref string) (containers.Container, error) {
	return Look(s, func(tx *store.ReadTx) (containers.Container, error) { return tx.Container(ref) })
}

// Lookup is Layer for a record of any kind.
func Lookup(s *store.Store, ref string) (store.Record, error) {
	return Look(s, func(tx *store.ReadTx) (store.Record, error) { return tx.Lookup(ref) })
}

// TimesMounted is the count that the store keeps.
func TimesMounted(s *store.Store, ref string) (int, error) {
	return Look(s, func(tx *store.ReadTx) (int, error) { return tx.Mounted(ref) })
}

// LayerData reads an item in a transaction of its own.
func LayerData(s *store.Store, ref, key string) (io.ReadCloser, error) {
	return Look(s, func(tx *store.ReadTx) (io.ReadCloser, error) { return tx.LayerBigData(ref, key) })
}

// ImageData is LayerData for an image.
func ImageData(s *store.Store, ref, key string) ([]byte, error) {
	return Look(s, func(tx *store.ReadTx) ([]byte, error) { return tx.ImageBigData(ref, key) })
}

// ContainerData is LayerData for a container.
func ContainerData(s *store.Store, ref, key string) ([]byte, error) {
	return Look(s, func(tx *store.ReadTx) ([]byte, error) { return tx.ContainerBigData(ref, key) })
}
