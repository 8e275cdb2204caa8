package catalog_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/testutil"
)

func imageCatalog(dir string) *catalog.Catalog[images.Image] {
	return catalog.New(catalog.Schema[images.Image]{
		Kind:     "image",
		ID:       func(i *images.Image) string { return i.ID },
		Names:    func(i *images.Image) []string { return i.Names },
		SetNames: func(i *images.Image, names []string) { i.Names = names },
	}, filepath.Join(dir, "images.lock"), catalog.File{Path: filepath.Join(dir, "images.json")})
}

func containerCatalog(dir string) *catalog.Catalog[containers.Container] {
	return catalog.New(catalog.Schema[containers.Container]{
		Kind:     "container",
		ID:       func(c *containers.Container) string { return c.ID },
		Names:    func(c *containers.Container) []string { return c.Names },
		SetNames: func(c *containers.Container, names []string) { c.Names = names },
		Keys: func(c *containers.Container) []catalog.Key {
			return []catalog.Key{{Kind: "layer", Value: c.LayerID}}
		},
		Alias: "layer",
	}, filepath.Join(dir, "containers.lock"),
		catalog.File{Path: filepath.Join(dir, "containers.json")},
		catalog.File{Path: filepath.Join(dir, "volatile-containers.json"), Volatile: true})
}

// A record that the peer wrote, decoded and encoded again by us, is the same to the byte.
func TestPeerRecordsRoundTrip(t *testing.T) {
	p := newPeer(t)
	tar := filepath.Join(t.TempDir(), "layer.tar")
	testutil.Tree(t, filepath.Dir(tar), "tree/a=content 1000:2000", "tree/b/c->a")
	tool := testutil.Tool(t, "tar", "tar")
	runTool(t, tool, "-C", filepath.Join(filepath.Dir(tar), "tree"), "-cf", tar, ".")
	gz := tar + ".gz"
	runTool(t, "sh", "-c", "gzip -k "+tar)

	base := first(p.run("import-layer", "-f", tar, "-n", "base", "-n", "quo\"te<&>ä"))
	mapped := first(p.run("import-layer", "-f", gz, "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"))
	p.run("create-layer", "-l", "system_u:object_r:container_file_t:s0:c1,c2", base)
	image := first(p.run("create-image", "-n", "docker.io/library/test:latest", "-m",
		`{"signature-sizes":[1,2],"x":"<&>"}`, base))
	data := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(data, []byte(`{"schemaVersion":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"manifest", "sha256:abc", "signature-1"} {
		p.run("set-image-data", "-f", data, image, key)
	}
	p.run("set-names", "-n", "a", "-n", "b", image)
	p.run("set-layer-data", "-f", data, mapped, "some key")
	durable := first(p.run("create-container", "-n", "one", "-m", "{}", image))
	volatile := first(p.run("create-container", "--volatile", "-n", "two", image))
	p.run("set-container-data", "-f", data, durable, "k")

	roundTrip(t, layerCatalog(p.dir("layers")), p.dir("layers"), "layers.json", "volatile-layers.json")
	roundTrip(t, imageCatalog(p.dir("images")), p.dir("images"), "images.json")
	roundTrip(t, containerCatalog(p.dir("containers")), p.dir("containers"), "containers.json",
		"volatile-containers.json")

	// And the peer sees what we change.
	err := layerCatalog(p.dir("layers")).Update(context.Background(), func(tx *writeTx) error {
		l, err := tx.Lookup("base")
		if err != nil {
			return err
		}
		l.Names, l.Metadata = append(l.Names, "ours"), "by us"
		return tx.Replace(l)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(p.run("get-names", base), "\n"); !slices.Equal(got,
		[]string{"base", "quo\"te<&>ä", "ours"}) {
		t.Errorf("the peer sees the names %q", got)
	}
	if got := p.run("metadata", "-q", "ours"); got != "by us" {
		t.Errorf("the peer sees the metadata %q", got)
	}
	err = containerCatalog(p.dir("containers")).Update(context.Background(),
		func(tx *catalog.WriteTx[containers.Container]) error {
			two, err := tx.Lookup("two")
			if err != nil || two.ID != volatile || two.Flags["Volatile"] != true {
				t.Errorf("container two: %+v, %v", two, err)
			}
			if i, err := tx.FileOf(two.ID); i != 1 || err != nil {
				t.Errorf("the volatile container is in file %d, %v", i, err)
			}
			byLayer, err := tx.Lookup(two.LayerID)
			if err != nil || byLayer.ID != two.ID {
				t.Errorf("by its layer: %q, %v", byLayer.ID, err)
			}
			one, err := tx.Lookup("one")
			if err != nil {
				return err
			}
			if err := tx.Remove(one.ID); err != nil {
				return err
			}
			two.Names = append(two.Names, "three")
			return tx.Replace(two)
		})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.run("containers"); strings.Contains(got, durable) || !strings.Contains(got, "name: three") {
		t.Errorf("the peer lists %s", got)
	}
}

// roundTrip replaces every record by itself and expects the same files.
func roundTrip[R any](t *testing.T, c *catalog.Catalog[R], dir string, files ...string) {
	t.Helper()
	var before []string
	for _, f := range files {
		before = append(before, content(t, dir, f))
	}
	err := c.Update(context.Background(), func(tx *catalog.WriteTx[R]) error {
		all, err := tx.All()
		if err != nil {
			return err
		}
		for _, r := range all {
			if err := tx.Replace(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		got := content(t, dir, f)
		if got != before[i] {
			t.Errorf("%s:\nours   %s\ntheirs %s", f, got, before[i])
		}
		t.Logf("%s: %d bytes", f, len(got))
	}
}

// The peer's table of mounts, and ours for the peer.
func TestPeerMountpoints(t *testing.T) {
	p := newPeer(t)
	id := p.run("create-layer")
	path := p.run("mount", id)
	run := filepath.Join(p.runs, "vfs-layers")
	m := catalog.NewMountpoints(filepath.Join(run, "mountpoints.lock"), filepath.Join(run, "mountpoints.json"))
	err := m.Update(context.Background(), func(tx *catalog.MountsWriteTx) error {
		got, err := tx.Get(id)
		if want := (catalog.Mountpoint{ID: id, Path: path, Count: 1}); got != want || err != nil {
			t.Errorf("mounted: %+v, %v, want %+v", got, err, want)
		}
		got.Count = 3
		return tx.Set(got)
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p.run("unmount", id)
	}
	err = m.View(context.Background(), func(tx *catalog.MountsTx) error {
		all, err := tx.All()
		if want := []catalog.Mountpoint{{ID: id, Path: path, Count: 1}}; !reflect.DeepEqual(all, want) {
			t.Errorf("after two of three unmounts: %+v, want %+v", all, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func first(lines string) string {
	line, _, _ := strings.Cut(lines, "\n")
	return line
}

func runTool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}
