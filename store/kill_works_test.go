package store_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
)

// work is an operation that is killed at each of its steps.
type work struct {
	// set changes how the store is opened; nil leaves it.
	set func(*config.Config)
	// prepare makes what the operation needs.
	prepare func(t *testing.T, cfg config.Config, s *store.Store)
	// do is the operation. It runs in the child, and after the kill once more in the
	// parent, where it must succeed.
	do func(ctx context.Context, s *store.Store) error
	// must are layers that exist whatever happened. Whichever others are listed must be
	// whole.
	must []string
}

var killTar = func() []byte { return layerTar(&testing.T{}, "etc/", "etc/hosts", "new") }

var works = map[string]work{
	"import": {
		prepare: base,
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.ImportLayer(ctx, layers.CreateOptions{ID: id("new"), Parent: "base", Names: []string{"new"},
				BigData: []layers.Item{{Key: "key", Data: strings.NewReader("value")}}}, bytes.NewReader(killTar()),
				nil)
			return unless(err, errdefs.ErrDuplicateID)
		},
		must: []string{id("base")},
	},
	"import three layers together": {
		prepare: base,
		do: func(ctx context.Context, s *store.Store) error {
			var chain []store.LayerImport
			for _, word := range []string{"one", "two", "three"} {
				chain = append(chain, store.LayerImport{Options: layers.CreateOptions{ID: id(word)},
					Tar: bytes.NewReader(killTar())})
			}
			_, err := s.ImportLayers(ctx, "base", chain)
			return unless(err, errdefs.ErrDuplicateID)
		},
		must: []string{id("base")},
	},
	"create a container": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			image(t, s)
		},
		do: func(ctx context.Context, s *store.Store) error {
			// The layer's ID is fixed here so that a second try meets what the first has
			// left.
			if _, err := findContainer(s, "box"); err == nil {
				return nil
			}
			// recorded before the container, and known to nobody
			if _, err := findLayer(s, id("boxlayer")); err == nil {
				if err := s.DeleteLayer(ctx, id("boxlayer"), store.DeleteOptions{Force: true}); err != nil {
					return err
				}
			}
			_, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id("box"), Layer: id("boxlayer"),
				Names: []string{"box"}, Image: "img"})
			return err
		},
		must: []string{id("base")},
	},
	"apply to an empty layer": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			if _, err := s.CreateLayer(context.Background(),
				layers.CreateOptions{ID: id("empty"), Parent: "base"}); err != nil {
				t.Fatal(err)
			}
		},
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.ApplyDiff(ctx, id("empty"), bytes.NewReader(killTar()), nil)
			return err
		},
		must: []string{id("base"), id("empty")},
	},
	"apply to a full layer": {
		prepare: base,
		do: func(ctx context.Context, s *store.Store) error {
			// It names all that was there before: Check takes what no tar names for a
			// change.
			tar := layerTar(&testing.T{}, "etc/", "etc/hosts", "new", "bin/", "bin/sh")
			_, err := s.ApplyDiff(ctx, "base", bytes.NewReader(tar), nil)
			return err
		},
		must: []string{id("base")},
	},
	"delete a mounted layer": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			importLayer(t, s, id("top"), "base", killTar(), "top")
			if _, err := s.Mount(context.Background(), "top", store.MountOptions{}); err != nil {
				t.Fatal(err)
			}
		},
		do: func(ctx context.Context, s *store.Store) error {
			return unless(s.DeleteLayer(ctx, "top", store.DeleteOptions{Force: true}), errdefs.ErrNotFound)
		},
		must: []string{id("base")},
	},
	"delete an image": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			importLayer(t, s, id("top"), "base", killTar(), "top")
			_, err := s.CreateImage(context.Background(), store.ImageOptions{ID: id("img"), Names: []string{"img"},
				TopLayer: "top"})
			if err != nil {
				t.Fatal(err)
			}
			if err := change(s, func(tx *store.WriteTx) error {
				return tx.SetImageBigData("img", "manifest",
					[]byte("{}"), "")
			}); err != nil {
				t.Fatal(err)
			}
		},
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.DeleteImage(ctx, "img", store.DeleteOptions{})
			return unless(err, errdefs.ErrNotFound)
		},
	},
	"delete a container": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			image(t, s)
			ctx := context.Background()
			if _, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id("box"), Names: []string{"box"},
				Image: "img"}); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []func(*store.ReadTx, string) (string, error){
				(*store.ReadTx).ContainerDirectory, (*store.ReadTx).ContainerRunDirectory} {
				path, err := look(s, func(tx *store.ReadTx) (string, error) { return dir(tx, "box") })
				if err != nil {
					t.Fatal(err)
				}
				testutil.Tree(t, path, "file=content")
			}
			if _, err := s.Mount(ctx, "box", store.MountOptions{}); err != nil {
				t.Fatal(err)
			}
		},
		do: func(ctx context.Context, s *store.Store) error {
			return unless(s.DeleteContainer(ctx, "box", store.DeleteOptions{Force: true}), errdefs.ErrNotFound)
		},
		must: []string{id("base")},
	},
	"create a container with owners mapped on disk": {
		set: func(cfg *config.Config) { cfg.Overlay.DisableIDMap = true },
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			testutil.HostRoot(t) // whose are the IDs that the owners become
			base(t, cfg, s)
			image(t, s)
		},
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id("box"), Image: "img",
				IDMap: shifted(100000)})
			return unless(err, errdefs.ErrDuplicateID)
		},
		must: []string{id("base")},
	},
	"mount": {
		prepare: base,
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.Mount(ctx, "base", store.MountOptions{})
			return err
		},
		must: []string{id("base")},
	},
	"unmount": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			if _, err := s.Mount(context.Background(), "base", store.MountOptions{}); err != nil {
				t.Fatal(err)
			}
		},
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.Unmount(ctx, "base", false)
			return err
		},
		must: []string{id("base")},
	},
	"remove incomplete layers": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			for _, word := range []string{"dead1", "dead2", "dead3"} {
				importLayer(t, s, id(word), "base", killTar(), word)
			}
			importLayer(t, s, id("alive"), "base", killTar(), "alive")
			markIncomplete(t, cfg, id("dead1"), id("dead2"), id("dead3"))
		},
		do: func(ctx context.Context, s *store.Store) error {
			return s.Update(ctx, func(tx *store.WriteTx) error { return tx.SetMetadata("base", "changed") })
		},
		must: []string{id("base"), id("alive")},
	},
	"collect garbage": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			importLayer(t, s, id("lost"), "", killTar(), "lost")
			dropRecord(t, cfg, id("lost"))
			testutil.Tree(t, cfg.GraphRoot, "overlay-images/"+id("nobody")+"/manifest={}",
				"overlay-containers/.tmp-containers.json123=[",
				"overlay/tempdirs/temp-dir-7/0-addition/diff/file=x", "overlay-layers/tmp/lock-8=",
				"overlay-layers/keepme/file=x")
		},
		do: func(ctx context.Context, s *store.Store) error {
			_, err := fsck.GC(ctx, s, fsck.GCOptions{})
			return err
		},
		must: []string{id("base")},
	},
}

func base(t *testing.T, _ config.Config, s *store.Store) {
	importLayer(t, s, id("base"), "", layerTar(t, "etc/", "etc/hosts", "bin/", "bin/sh"), "base")
}

func image(t *testing.T, s *store.Store) {
	if _, err := s.CreateImage(context.Background(), store.ImageOptions{ID: id("img"), Names: []string{"img"},
		TopLayer: "base"}); err != nil {
		t.Fatal(err)
	}
}

// unless forgives an error that says that an earlier try had come far enough.
func unless(err, class error) error {
	if errors.Is(err, class) {
		return nil
	}
	return err
}

// records is the catalog of layers as another program might open it.
func records(cfg config.Config) *catalog.Catalog[layers.Layer] {
	dir := filepath.Join(cfg.GraphRoot, cfg.Driver+"-layers")
	return catalog.New(catalog.Schema[layers.Layer]{Kind: "layer", ID: func(l *layers.Layer) string { return l.ID }},
		filepath.Join(dir, "layers.lock"), catalog.File{Path: filepath.Join(dir, "layers.json")})
}

// markIncomplete does what containers/storage does before it deletes layers, or creates
// them.
func markIncomplete(t *testing.T, cfg config.Config, ids ...string) {
	t.Helper()
	err := records(cfg).Update(context.Background(), func(tx *catalog.WriteTx[layers.Layer]) error {
		for _, id := range ids {
			l, err := tx.Get(id)
			if err != nil {
				return err
			}
			l.Flags = map[string]any{"incomplete": true}
			if err := tx.Replace(l); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dropRecord takes a record out and leaves the layer's files.
func dropRecord(t *testing.T, cfg config.Config, id string) {
	t.Helper()
	err := records(cfg).Update(context.Background(),
		func(tx *catalog.WriteTx[layers.Layer]) error { return tx.Remove(id) })
	if err != nil {
		t.Fatal(err)
	}
}
