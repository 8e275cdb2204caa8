// Package hostile_test opens stores that somebody has prepared: at each place of the
// format stands something that doesn't belong there, and no verb may follow it, wait for
// it, or touch what it leads to.
package hostile_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testutil.Main(m) }

const secret = "what-nobody-may-see"

func id(word string) string { return fmt.Sprintf("%064x", word)[:64] }

var base, top, image, container = id("base" + strings.Repeat("b", 28)), id("top" + strings.Repeat("t", 29)),
	id("image" + strings.Repeat("i", 27)), id("box" + strings.Repeat("x", 29))

func layerTar() *bytes.Reader {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range []string{"etc/", "etc/hosts"} {
		h := tar.Header{Name: name, Mode: 0o755, Size: 5, Typeflag: tar.TypeReg}
		if strings.HasSuffix(name, "/") {
			h.Size, h.Typeflag = 0, tar.TypeDir
		}
		_ = w.WriteHeader(&h)
		_, _ = w.Write([]byte("hosts")[:h.Size])
	}
	_ = w.Close()
	return bytes.NewReader(out.Bytes())
}

// verbs are what is tried on each store, one after the other.
func verbs(out *bytes.Buffer) []verb {
	ctx := context.Background()
	look := func(dir string) error {
		return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error {
			out.WriteString(path)
			return nil
		})
	}
	return []verb{
		{"list", func(s *store.Store) error {
			return s.View(ctx, func(tx *store.ReadTx) error {
				_, err := tx.Layers()
				_, err2 := tx.Images()
				_, err3 := tx.Containers()
				return errors.Join(err, err2, err3)
			})
		}},
		{"mount", func(s *store.Store) error {
			path, err := s.Mount(ctx, top, store.MountOptions{})
			if err != nil {
				return err
			}
			err = errors.Join(look(path), os.WriteFile(filepath.Join(path, "written"), nil, 0o600))
			_, uerr := s.Unmount(ctx, top, false)
			return errors.Join(err, uerr)
		}},
		{"mount base", func(s *store.Store) error {
			path, err := s.Mount(ctx, base, store.MountOptions{ReadOnly: true})
			if err != nil {
				return err
			}
			_, uerr := s.Unmount(ctx, base, false)
			return errors.Join(look(path), uerr)
		}},
		{"item", func(s *store.Store) error {
			var item io.ReadCloser
			err := s.View(ctx, func(tx *store.ReadTx) (err error) {
				item, err = tx.LayerBigData(base, "key")
				return err
			})
			if err != nil {
				return err
			}
			_, err = out.ReadFrom(item)
			return errors.Join(err, item.Close())
		}},
		{"diff", func(s *store.Store) error { return s.Diff(ctx, out, top, "", store.DiffOptions{}) }},
		{"diff base", func(s *store.Store) error { return s.Diff(ctx, out, base, "", store.DiffOptions{}) }},
		{"changes", func(s *store.Store) error { _, err := s.Changes(ctx, top, ""); return err }},
		{"import", func(s *store.Store) error {
			_, err := s.ImportLayer(ctx, layers.CreateOptions{Parent: base}, layerTar(), nil)
			return err
		}},
		{"create", func(s *store.Store) error {
			_, err := s.CreateContainer(ctx, store.ContainerOptions{Image: image})
			return err
		}},
		{"gc", func(s *store.Store) error { _, err := fsck.GC(ctx, s, fsck.GCOptions{}); return err }},
		{"check", func(s *store.Store) error {
			report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
			for _, f := range report.Findings {
				fmt.Fprintln(out, f)
			}
			return err
		}},
		{"delete container", func(s *store.Store) error { return s.DeleteContainer(ctx, container, plainly) }},
		{"delete image", func(s *store.Store) error { _, err := s.DeleteImage(ctx, image, plainly); return err }},
		{"delete layer", func(s *store.Store) error { return s.DeleteLayer(ctx, top, store.DeleteOptions{}) }},
	}
}

var plainly store.DeleteOptions

type verb struct {
	name string
	do   func(s *store.Store) error
}

// places are those of the format, beneath the graph root or, with "run/", the run root.
var places = []string{
	"overlay-layers", "overlay-images", "overlay-containers", "overlay-layers/layers.json",
	"overlay-layers/layers.lock",
	"overlay-layers/tmp", "overlay-layers/" + base + ".tar-split.gz", "overlay-layers/" + base, "overlay-layers/" +
		base + "/key",
	"overlay-images/images.json", "overlay-images/images.lock", "overlay-images/" + image, "overlay-images/" + image +
		"/key",
	"overlay-containers/containers.json", "overlay-containers/containers.lock", "overlay-containers/" + container,
	"overlay/l", "overlay/tempdirs", "overlay/staging", "overlay/" + base, "overlay/" + base + "/diff", "overlay/" +
		base + "/link",
	"overlay/" + base + "/lower", "overlay/" + base + "/lower-layers", "overlay/" + base + "/empty", "overlay/" + base +
		"/additionallayer",
	"overlay/" + top + "/diff", "overlay/" + top + "/work", "overlay/" + top + "/merged", "overlay/" + top +
		"/lower-layers",
	"run/overlay-layers", "run/overlay-layers/mountpoints.json", "run/overlay-layers/mountpoints.lock",
	"run/overlay-layers/importing.lock", "run/overlay-layers/footprints.json", "storage.lock", "userns.lock",
}

// On a store that nobody has touched every verb works, so that the others show something.
func TestVerbsOfAHealthyStore(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	cfg := config.Config{GraphRoot: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), Driver: "overlay"}
	healthy(t, cfg)
	var out bytes.Buffer
	for _, v := range verbs(&out) {
		s, err := store.Open(t.Context(), cfg)
		if err == nil {
			err = errors.Join(v.do(s), s.Close())
		}
		if err != nil && v.name != "delete image" { // a container that create has made uses it
			t.Errorf("%s: %v", v.name, err)
		}
	}
}

func TestNothingIsFollowed(t *testing.T) {
	testutil.Root(t)
	kinds := map[string]func(path, outside string) error{
		"link to a file": func(path, outside string) error {
			return os.Symlink(filepath.Join(outside, "file"),
				path)
		},
		"link to a directory": func(path, outside string) error { return os.Symlink(outside, path) },
		"link to nothing": func(path, outside string) error {
			return os.Symlink(filepath.Join(outside, "none"),
				path)
		},
		"pipe": func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"device": func(path, _ string) error {
			return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) // /dev/zero
		},
		"directory": func(path, _ string) error { return os.Mkdir(path, 0o700) },
	}
	for kind, make := range kinds {
		t.Run(kind, func(t *testing.T) {
			for _, place := range places {
				// An empty directory is right in the place of one.
				t.Run(place, func(t *testing.T) { try(t, place, kind == "directory", make) })
			}
		})
	}
}

func try(t *testing.T, place string, right bool, put func(path, outside string) error) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755,size=64m"))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	cfg := config.Config{GraphRoot: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), Driver: "overlay"}
	healthy(t, cfg)

	outside := filepath.Join(dir, "outside")
	testutil.Tree(t, outside, "file="+secret, secret+"=x", "diff/"+secret+"=x", "temp-dir-7/kept=x",
		"work/incompat/volatile/", "l/", "key="+secret, "link=x")
	before := testutil.Snapshot(t, outside)

	path := filepath.Join(cfg.GraphRoot, place)
	if rel, ok := strings.CutPrefix(place, "run/"); ok {
		path = filepath.Join(cfg.RunRoot, rel)
	}
	must(os.RemoveAll(path))
	must(os.MkdirAll(filepath.Dir(path), 0o700))
	must(put(path, outside))

	var out bytes.Buffer
	named := false
	for _, v := range verbs(&out) {
		out.Reset()
		done := make(chan error, 1)
		go func() {
			s, err := store.Open(context.Background(), cfg)
			if err == nil {
				err = errors.Join(v.do(s), s.Close())
			}
			done <- err
		}()
		select {
		case err := <-done:
			if text := out.String(); strings.Contains(text, secret) {
				t.Errorf("%s shows what is outside: %.300s", v.name, text)
			}
			named = named || strings.Contains(out.String(), path) || err != nil && strings.Contains(err.Error(), path)
			if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
				t.Errorf("%s: a bare error of the kernel: %v", v.name, err)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s hangs", v.name)
		}
		testutil.SameTree(t, before, testutil.Snapshot(t, outside))
		if t.Failed() {
			t.Fatalf("after %s", v.name)
		}
	}
	if !named && !right {
		t.Error("neither an error nor a finding names the path")
	}
}

// healthy makes a store with one of everything.
func healthy(t *testing.T, cfg config.Config) {
	t.Helper()
	ctx := t.Context()
	s, err := store.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.ImportLayer(ctx, layers.CreateOptions{ID: base}, layerTar(), nil)
	err = errors.Join(err, s.SetLayerBigData(ctx, base, "key", strings.NewReader("data")))
	_, cerr := s.CreateLayer(ctx, layers.CreateOptions{ID: top, Parent: base})
	_, ierr := s.CreateImage(ctx, store.ImageOptions{ID: image, TopLayer: base,
		BigData: []images.Item{{Key: "key", Data: []byte("data")}}})
	_, xerr := s.CreateContainer(ctx, store.ContainerOptions{ID: container, Image: image})
	if err := errors.Join(err, cerr, ierr, xerr, s.Close()); err != nil {
		t.Fatal(err)
	}
}
