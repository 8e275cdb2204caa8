package fsck_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
)

// Files that no record knows are found, those of a layer that is being made aren't, and
// go with the garbage. What isn't named like the store's own stays.
func TestStrays(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	cfg.Driver = "vfs"
	s := open(t, cfg)
	importLayer(t, s, id("a"), "", layerTar(t, "f"))
	half := func([]byte) (int, error) {
		if report, err := fsck.Check(ctx, open(t, cfg), fsck.CheckOptions{}); err != nil || !report.Empty() {
			t.Errorf("while a layer is made: %v, %v", report.Findings, err)
		}
		return 0, io.EOF
	}
	tar := layerTar(t, "g")
	_, err := s.ImportLayer(ctx, layers.CreateOptions{ID: id("b")}, io.MultiReader(bytes.NewReader(tar[:600]),
		readerFunc(half), bytes.NewReader(tar[600:])), nil)
	if err != nil {
		t.Fatal(err)
	}
	paths := func() (all []string) {
		dir := filepath.Dir(cfg.GraphRoot)
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			all = append(all, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := paths()
	dir := filepath.Join(cfg.GraphRoot, "vfs-layers")
	testutil.Tree(t, filepath.Dir(cfg.GraphRoot), "root/vfs/dir/"+id("c")+"/f=x",
		"root/vfs-layers/"+id("c")+".tar-split.gz=x", "root/vfs-layers/"+id("d")+"/item=x",
		"root/vfs-layers/"+id("a")+"/stray=x", "root/vfs-layers/.tmp-layers.json1=x", "root/vfs-layers/unknown.json=x",
		"run/vfs-layers/.tmp-mountpoints.json1=x")
	want := []string{id("c"), cfg.RunRoot + "/vfs-layers/.tmp-mountpoints.json1", dir + "/.tmp-layers.json1",
		dir + "/" + id("a") + "/stray", dir + "/" + id("c") + ".tar-split.gz", dir + "/" + id("d")}
	done, err := fsck.GC(ctx, open(t, cfg), fsck.GCOptions{})
	var got []string
	for _, f := range done.Findings {
		got = append(got, f.ID)
	}
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("collected %v, %v\nwant %v", got, err, want)
	}
	left := slices.DeleteFunc(paths(), func(path string) bool { return slices.Contains(before, path) })
	if want := []string{dir + "/" + id("a"), dir + "/unknown.json"}; !slices.Equal(left, want) {
		t.Errorf("left: %v, want %v", left, want)
	}
	if _, err := os.Stat(dir + "/" + id("b") + ".tar-split.gz"); err != nil {
		t.Error(err)
	}
}

// So are those beside the records of images and containers, in both roots.
func TestStraysOfImagesAndContainers(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	cfg.Driver = "vfs"
	s := open(t, cfg)
	importLayer(t, s, id("a"), "", layerTar(t, "f"))
	if _, err := s.CreateImage(ctx, images.Options{ID: id("b"), TopLayer: id("a"),
		BigData: []images.Item{{Key: "other", Data: []byte("x")}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id("b"), Image: id("b"),
		BigData: []containers.Item{{Key: "other", Data: []byte("x")}}}); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, kind := range []string{"images", "containers"} {
		graph, run := cfg.GraphRoot+"/vfs-"+kind, cfg.RunRoot+"/vfs-"+kind
		testutil.Tree(t, graph, id("b")+"/stray=x", id("b")+"/.tmp-other1=x", ".tmp-"+kind+".json7=x",
			"somebody-elses/file=x", id("b")+"/userdata/theirs=x", id("c")+"/other=x")
		testutil.Tree(t, filepath.Dir(run), filepath.Base(run)+"/"+id("c")+"/userdata/theirs=x")
		want = append(want, graph+"/.tmp-"+kind+".json7", graph+"/"+id("b")+"/.tmp-other1",
			graph+"/"+id("b")+"/stray", graph+"/"+id("c"), run+"/"+id("c"))
	}
	done, err := fsck.GC(ctx, open(t, cfg), fsck.GCOptions{})
	var got []string
	for _, f := range done.Findings {
		got = append(got, f.ID)
	}
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("collected %v, %v\nwant %v", got, err, want)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
