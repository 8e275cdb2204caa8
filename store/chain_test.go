package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// chainTars are the layers of an image: with and without a word about the root directory,
// with a directory that a later one replaces, and with whiteouts.
func chainTars(t *testing.T) [][]byte {
	return [][]byte{
		layerTar(t, "etc/", "etc/hosts", "gone"),
		layerTar(t, "x", "./", "etc/passwd", "etc/.wh.hosts"),
		layerTar(t, ".wh.gone", "deep/", "deep/er/", "deep/er/file"),
		layerTar(t, "etc/", "etc/.wh..wh..opq", "etc/fstab", "y"),
		layerTar(t, "last"),
	}
}

// Layers imported together are those that come of importing them one after another.
func TestTogetherIsLikeOneAfterAnother(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			ctx := context.Background()
			seen := map[string]map[string]string{}
			for _, how := range []string{"together", "in turn"} {
				cfg := roots(t)
				cfg.Driver = driver
				s := open(t, cfg)
				importLayer(t, s, id("base"), "", layerTar(t, "base/", "base/file"))
				var chain []store.LayerImport
				parent := id("base")
				for i, tar := range chainTars(t) {
					opts := layers.CreateOptions{ID: id(fmt.Sprint(i)), Names: []string{fmt.Sprint("layer", i)}}
					if how == "in turn" {
						parent = importLayer(t, s, opts.ID, parent, tar, opts.Names...).ID
					}
					chain = append(chain, store.LayerImport{Options: opts, Tar: bytes.NewReader(tar)})
				}
				if how == "together" {
					made, err := s.ImportLayers(ctx, id("base"), chain)
					if err != nil || len(made) != len(chain) {
						t.Fatalf("%d layers, %v", len(made), err)
					}
				}
				for i, tar := range chainTars(t) {
					layer, err := findLayer(s, fmt.Sprint("layer", i))
					if err != nil {
						t.Fatal(err)
					}
					if i > 0 && layer.Parent != id(fmt.Sprint(i-1)) {
						t.Errorf("%s: layer %d lies on %s", how, i, layer.Parent)
					}
					if !bytes.Equal(export(t, s, layer.ID), tar) {
						t.Errorf("%s: layer %d comes back changed", how, i)
					}
				}
				path, err := s.Mount(ctx, "layer4", store.MountOptions{ReadOnly: true})
				if err != nil {
					t.Fatal(err)
				}
				if seen[how], err = testutil.ReadTree(path); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Unmount(ctx, "layer4", false); err != nil {
					t.Fatal(err)
				}
				noGarbage(t, s)
			}
			for _, tree := range seen {
				owner, _, _ := strings.Cut(tree["."], " mtime=") // the time is when it was made
				tree["."] = owner
			}
			if lines := testutil.Diff(seen["in turn"], seen["together"]); len(lines) > 0 {
				t.Errorf("together it is another tree: %v", lines)
			}
		})
	}
}

// Without IDs to go by, layers find each other all the same.
func TestTogetherWithoutIDs(t *testing.T) {
	s := open(t, roots(t))
	made, err := s.ImportLayers(context.Background(), "", []store.LayerImport{
		{Tar: bytes.NewReader(layerTar(t, "a"))}, {Tar: bytes.NewReader(layerTar(t, "b"))},
		{Tar: bytes.NewReader(layerTar(t, "c"))}})
	if err != nil || len(made) != 3 || made[1].Parent != made[0].ID || made[2].Parent != made[1].ID {
		t.Fatalf("%+v, %v", made, err)
	}
	noGarbage(t, s)
}

// Of layers that can't all be made none is.
func TestTogetherOrNotAtAll(t *testing.T) {
	good := func() io.Reader { return bytes.NewReader(layerTar(t, "file")) }
	stopped, stop := context.WithCancel(context.Background())
	for name, c := range map[string]struct {
		ctx   context.Context
		chain func() []store.LayerImport
		want  error
	}{
		"a damaged tar": {context.Background(), func() []store.LayerImport {
			return []store.LayerImport{{Tar: good()},
				{Tar: bytes.NewReader([]byte("this is no tar, but it is long enough to be seen as one"))},
				{Tar: good()}}
		}, errdefs.ErrInvalid},
		"an ID that is taken": {context.Background(), func() []store.LayerImport {
			return []store.LayerImport{{Tar: good()}, {Options: layers.CreateOptions{ID: id("base")},
				Tar: untouched{t}}}
		}, errdefs.ErrDuplicateID},
		"one ID for two": {context.Background(), func() []store.LayerImport {
			return []store.LayerImport{{Options: layers.CreateOptions{ID: id("twin")}, Tar: good()},
				{Options: layers.CreateOptions{ID: id("twin")}, Tar: good()}}
		}, errdefs.ErrDuplicateID},
		"an end on the way": {stopped, func() []store.LayerImport {
			return []store.LayerImport{{Tar: good()},
				{Tar: io.MultiReader(readerFunc(func([]byte) (int, error) { stop(); return 0, io.EOF }), good())}}
		}, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := roots(t)
			s := open(t, cfg)
			importLayer(t, s, id("base"), "", layerTar(t, "base/"))
			if made, err := s.ImportLayers(c.ctx, id("base"), c.chain()); !errors.Is(err, c.want) || len(made) > 0 {
				t.Fatalf("%v, %v; want %v", made, err, c.want)
			}
			all, err := allLayers(s)
			if err != nil || len(all) != 1 {
				t.Errorf("layers left: %v, %v", all, err)
			}
			noGarbage(t, s)
			nothingStaged(t, cfg, s)
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func nothingStaged(t *testing.T, cfg config.Config, s *store.Store) {
	t.Helper()
	if err := s.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(cfg.GraphRoot, "overlay", "tempdirs"))
	if err != nil && !os.IsNotExist(err) || len(left) > 0 {
		t.Errorf("left in tempdirs: %v, %v", left, err)
	}
}

// What is recorded is on disk already, unless storage.conf says that it need not be.
func TestSyncSetting(t *testing.T) {
	for setting, want := range map[string]bool{"": true, "filesystem": true, "none": false} {
		t.Run(setting, func(t *testing.T) {
			cfg := roots(t)
			cfg.Overlay.Sync = setting
			s := open(t, cfg)
			synced := false
			ctx := step.Watch(context.Background(), func(name string) { synced = synced || name == "layer synced" })
			if _, err := s.ImportLayer(ctx, layers.CreateOptions{}, bytes.NewReader(layerTar(t, "file")),
				nil); err != nil {
				t.Fatal(err)
			}
			if synced != want {
				t.Errorf("synced: %v, want %v", synced, want)
			}
			noGarbage(t, s)
		})
	}
}
