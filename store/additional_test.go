package store_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

const reference = "registry.example/image:1"

// layerStore makes an additional layer store of plain directories, with one layer, and
// returns that layer's directory, its TOC digest and its blob.
func layerStore(t *testing.T, root string, withReference bool, info map[string]any) (dir string, toc digest.Digest,
	blob []byte) {
	t.Helper()
	tar := layerTar(t, "from-afar")
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	w.Write(tar)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	blob, toc = compressed.Bytes(), digest.FromString("table of contents")
	dir = root
	if withReference {
		dir = filepath.Join(root, base64.StdEncoding.EncodeToString([]byte(reference)))
	}
	dir = filepath.Join(dir, toc.String())
	if err := os.MkdirAll(filepath.Join(dir, "diff"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := apply.Tar(t.Context(), filepath.Join(dir, "diff"), bytes.NewReader(tar), nil,
		apply.Options{}); err != nil {
		t.Fatal(err)
	}
	record := map[string]any{
		"id": "of no interest", "names": []string{"none"}, "parent": "nor this",
		"compressed-diff-digest": digest.FromBytes(blob), "compressed-size": len(blob),
		"diff-digest": digest.FromBytes(tar), "diff-size": len(tar), "toc-digest": toc, "compression": compress.Gzip,
	}
	for k, v := range info {
		record[k] = v
	}
	text, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"info": text, "blob": blob} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, toc, blob
}

// A layer of an additional layer store becomes a layer of the store without a copy: it
// has the store's digests, its children show its files, its diff is the store's blob, it
// can't be changed, and it goes like any other.
func TestAdditionalLayer(t *testing.T) {
	testutil.Root(t)
	for name, withReference := range map[string]bool{"plain": false, "with reference": true} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			cfg := roots(t)
			elsewhere := t.TempDir()
			cfg.AdditionalLayerStores = []config.LayerStore{{Path: filepath.Join(elsewhere, "empty")},
				{Path: elsewhere, WithReference: withReference}}
			dir, toc, blob := layerStore(t, elsewhere, withReference, nil)
			before := testutil.Snapshot(t, filepath.Join(dir, "diff"))
			s := open(t, cfg)

			if _, err := s.LookupAdditionalLayer(ctx, digest.FromString("other"), reference); !errors.Is(err,
				errdefs.ErrNotFound) {
				t.Fatalf("a layer that nobody has: %v", err)
			}
			if _, err := s.LookupAdditionalLayer(ctx, "../../etc", reference); !errors.Is(err, errdefs.ErrInvalid) {
				t.Fatalf("a path for a digest: %v", err)
			}
			found, err := s.LookupAdditionalLayer(ctx, toc, reference)
			if err != nil {
				t.Fatal(err)
			}
			if found.Info.TOCDigest != toc || found.Info.CompressedSize != int64(len(blob)) {
				t.Errorf("found %+v", found.Info)
			}
			layer, err := found.PutAs(ctx, layers.CreateOptions{ID: id("far"), Names: []string{"far"}})
			if err != nil {
				t.Fatal(err)
			}
			found.Release()
			if layer.Parent != "" || len(layer.Names) != 1 || layer.Names[0] != "far" ||
				layer.CompressedDigest != digest.FromBytes(blob) {
				t.Errorf("the record is %+v", layer)
			}
			home := filepath.Join(cfg.GraphRoot, "overlay", id("far"))
			if to, err := os.Readlink(filepath.Join(home, "diff")); err != nil || to != filepath.Join(dir, "diff") {
				t.Errorf("diff leads to %q, %v", to, err)
			}
			if text, err := os.ReadFile(filepath.Join(home, "additionallayer")); err != nil || string(text) != dir {
				t.Errorf("additionallayer is %q, %v", text, err)
			}

			if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: id("child"), Parent: "far",
				Writable: true}); err != nil {
				t.Fatal(err)
			}
			for _, ref := range []string{"far", id("child")} {
				at, err := s.Mount(ctx, ref, store.MountOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(filepath.Join(at, "from-afar")); err != nil {
					t.Errorf("%s: %v", ref, err)
				}
				if err := os.WriteFile(filepath.Join(at, "new"), nil, 0o644); (err == nil) != (ref != "far") {
					t.Errorf("%s: write: %v", ref, err)
				}
				if _, err := s.Unmount(ctx, ref, false); err != nil {
					t.Fatal(err)
				}
			}
			if got := exportAs(t, s, "far", nil); !bytes.Equal(got, blob) {
				t.Error("the diff isn't the blob")
			}
			plain := compress.None
			if got := exportAs(t, s, "far", &plain); digest.FromBytes(got) != layer.DiffID {
				t.Error("the uncompressed diff isn't the layer's tar")
			}
			if _, err := s.ApplyDiff(ctx, "far", bytes.NewReader(layerTar(t, "more")), nil); !errors.Is(err,
				errdefs.ErrReadOnly) {
				t.Errorf("apply a diff: %v", err)
			}
			noGarbage(t, s)
			for _, ref := range []string{id("child"), "far"} {
				if err := s.DeleteLayer(ctx, ref, store.DeleteOptions{Force: true}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := os.Lstat(home); !os.IsNotExist(err) {
				t.Errorf("left: %v", err)
			}
			testutil.SameTree(t, before, testutil.Snapshot(t, filepath.Join(dir, "diff")))
			if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
				t.Errorf("the layer store has %v, %v", left, err)
			}
		})
	}
}

// A container with an ID map on such a layer gets a copy with its owners: a daemon's file
// system can't translate them while it is mounted.
func TestMappedContainerOnAdditionalLayer(t *testing.T) {
	testutil.HostRoot(t)
	ctx := t.Context()
	cfg := roots(t)
	elsewhere := t.TempDir()
	cfg.AdditionalLayerStores = []config.LayerStore{{Path: elsewhere}}
	_, toc, _ := layerStore(t, elsewhere, false, nil)
	s := open(t, cfg)
	found, err := s.LookupAdditionalLayer(ctx, toc, reference)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Release()
	layer, err := found.PutAs(ctx, layers.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	image, err := s.CreateImage(ctx, store.ImageOptions{TopLayer: layer.ID})
	if err != nil {
		t.Fatal(err)
	}
	maps := []idtools.Map{{ContainerID: 0, HostID: 100000, Size: 65536}}
	box, err := s.CreateContainer(ctx, store.ContainerOptions{Image: image.ID,
		IDMap: idtools.Mapping{UIDs: maps, GIDs: maps}})
	if err != nil {
		t.Fatal(err)
	}
	at, err := s.Mount(ctx, box.ID, store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := testutil.Snapshot(t, at)["from-afar"]; !strings.Contains(got, "owner=100000:100000") {
		t.Errorf("from-afar is %s", got)
	}
	if _, err := s.Unmount(ctx, box.ID, false); err != nil {
		t.Error(err)
	}
}

func exportAs(t *testing.T, s *store.Store, ref string, c *compress.Kind) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Diff(t.Context(), &b, ref, "", store.DiffOptions{Compression: c}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What an additional layer store says is looked at before it is believed.
func TestAdditionalLayerInfo(t *testing.T) {
	testutil.HostRoot(t)
	for name, info := range map[string]map[string]any{
		"a digest that is none": {"diff-digest": "sha256:../../etc/passwd"},
		"another type":          {"compressed-size": "many"},
		"too long":              {"metadata": string(bytes.Repeat([]byte("x"), 2<<20))},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := roots(t)
			elsewhere := t.TempDir()
			cfg.AdditionalLayerStores = []config.LayerStore{{Path: elsewhere}}
			_, toc, _ := layerStore(t, elsewhere, false, info)
			if _, err := open(t, cfg).LookupAdditionalLayer(t.Context(), toc, reference); !errors.Is(err,
				errdefs.ErrInvalid) {
				t.Errorf("looked up: %v", err)
			}
		})
	}
}

// A driver that can't have layer stores says so when it is opened.
func TestLayerStoresOfOtherDrivers(t *testing.T) {
	cfg := roots(t)
	cfg.Driver = "vfs"
	cfg.AdditionalLayerStores = []config.LayerStore{{Path: t.TempDir()}}
	if _, err := allLayers(open(t, cfg)); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("opened: %v", err)
	}
}
