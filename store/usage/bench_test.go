package usage_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/usage"
	"golang.org/x/sys/unix"
)

// What takes how much, in a store with 5,000 layers of 20 files: 667 images of ten
// layers, half of which they share with another, and 67 containers. Each round is a
// process of its own, as far as what it remembers goes.
func BenchmarkUsage(b *testing.B) {
	testutil.Root(b)
	dir := b.TempDir()
	cfg := config.Config{GraphRoot: dir + "/root", RunRoot: dir + "/run", Driver: "overlay"}
	writeStore(b, cfg.GraphRoot, 667, 10, 20)
	ask := func(b *testing.B, opts usage.Options) {
		s, err := store.Open(context.Background(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		r, err := usage.Of(context.Background(), s, opts)
		if err != nil || len(r.Layers) < 5000 || r.Total.Inodes < 100_000 {
			b.Fatalf("%d layers, %d inodes, %v", len(r.Layers), r.Total.Inodes, err)
		}
	}
	for name, opts := range map[string]usage.Options{"measured before": {}, "measured anew": {Fresh: true}} {
		b.Run(name, func(b *testing.B) {
			ask(b, opts)
			before := processorTime(b)
			for b.Loop() {
				ask(b, opts)
			}
			// what a busy host leaves comparable
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N)/1e6, "cpu-ms/op")
		})
	}
}

// processorTime is what this process has used so far, in user space and in the kernel.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// writeStore writes a store of overlay layers as quickly as files can be made: importing
// thousands of them would take minutes.
func writeStore(t testing.TB, root string, nImages, depth, files int) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	var records []layers.Layer
	add := func(name, parent string, files int) string {
		l := layers.Layer{
			ID: digest.FromString(name).Encoded(), Parent: parent, Created: time.Unix(1, 0).UTC(),
			DiffID: digest.FromString(name + " content"), CompressedDigest: digest.FromString(name + " blob"),
			DiffSize: 1 << 20, CompressedSize: 1 << 19,
			Compression: 2, UIDs: []uint32{0, 1, 2, 33, 65534}, GIDs: []uint32{0, 1, 2, 33, 65534},
		}
		if files == 0 {
			l.DiffID, l.CompressedDigest, l.DiffSize, l.CompressedSize, l.Compression = "", "", 0, 0, 0
		}
		home := filepath.Join(root, "overlay", l.ID)
		must(os.MkdirAll(filepath.Join(home, "diff", "usr", "share"), 0o755))
		must(os.Mkdir(filepath.Join(home, "work"), 0o700))
		must(os.WriteFile(filepath.Join(home, "link"), []byte(l.ID[:26]), 0o600))
		must(os.Symlink("../"+l.ID+"/diff", filepath.Join(root, "overlay", "l", l.ID[:26])))
		for n := range files {
			must(os.WriteFile(filepath.Join(home, "diff", "usr", "share", fmt.Sprint(n)),
				[]byte(strings.Repeat("x", 50*n)), 0o644))
		}
		must(os.WriteFile(filepath.Join(root, "overlay-layers", l.ID+".tar-split.gz"), []byte("recipe"), 0o600))
		records = append(records, l)
		return l.ID
	}
	for _, name := range []string{"overlay/l", "overlay-layers", "overlay-images", "overlay-containers"} {
		must(os.MkdirAll(filepath.Join(root, name), 0o755))
	}
	var allImages []images.Image
	var allContainers []containers.Container
	for n := range nImages {
		top := ""
		for d := range depth {
			name := fmt.Sprint(n, d)
			if d < depth/2 {
				name = fmt.Sprint("shared ", n/2, d)
				if n%2 == 1 {
					top = digest.FromString(name).Encoded()
					continue
				}
			}
			top = add(name, top, files)
		}
		image := images.Image{ID: digest.FromString(fmt.Sprint("image ", n)).Encoded(),
			Names: []string{fmt.Sprint("example.com/image:", n)}, TopLayer: top, Created: time.Unix(1, 0).UTC()}
		allImages = append(allImages, image)
		must(os.MkdirAll(filepath.Join(root, "overlay-images", image.ID), 0o700))
		must(os.WriteFile(filepath.Join(root, "overlay-images", image.ID, "manifest"), []byte("{}"), 0o600))
		if n%10 == 0 {
			c := containers.Container{ID: digest.FromString(fmt.Sprint("container ", n)).Encoded(), ImageID: image.ID,
				Created: time.Unix(1, 0).UTC()}
			c.LayerID = add(c.ID, top, 0)
			allContainers = append(allContainers, c)
		}
	}
	for path, records := range map[string]any{
		"overlay-layers/layers.json": records, "overlay-images/images.json": allImages,
		"overlay-containers/containers.json": allContainers,
	} {
		data, err := json.Marshal(records)
		must(err)
		must(os.WriteFile(filepath.Join(root, path), data, 0o600))
	}
}
