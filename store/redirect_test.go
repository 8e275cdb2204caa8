package store_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// A container mounted with metacopy and redirect_dir leaves files without content and
// directories under new names in its own directory. Its diff must hold the content all
// the same, and the whole of a renamed directory.
func TestDiffFollowsMetacopyAndRedirects(t *testing.T) {
	testutil.Root(t)
	ctx := t.Context()
	s := open(t, roots(t))
	importLayer(t, s, id("base"), "", layerTar(t, "dir/inside", "file"))
	work, err := s.CreateLayer(ctx, layers.CreateOptions{Parent: id("base"), Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.Mount(ctx, work.ID, store.MountOptions{Options: []string{"metacopy=on", "redirect_dir=on"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(path, "file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(path, "dir"), filepath.Join(path, "moved")); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(path, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Unmount(ctx, work.ID, false); err != nil {
		t.Fatal(err)
	}

	got := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(export(t, s, work.ID))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[filepath.Clean(h.Name)] = string(content)
	}
	if len(want) == 0 || got["file"] != string(want) {
		t.Errorf("file holds %q in the diff, want %q", got["file"], want)
	}
	if _, ok := got["moved/inside"]; !ok {
		t.Errorf("the diff has no moved/inside: %q", got)
	}
	if _, ok := got[".wh.dir"]; !ok {
		t.Errorf("the diff doesn't delete dir: %q", got)
	}
	all := int64(len("file") + len("dir/inside"))
	if size, err := s.DiffSize(ctx, work.ID, ""); err != nil || size != all {
		t.Errorf("diff size %d, %v, want %d", size, err, all)
	}
	changes, err := s.Changes(ctx, work.ID, "")
	if err != nil || len(changes) < 3 {
		t.Errorf("changes: %v, %v", changes, err)
	}
}

// The same with an ID map: what a metacopy and a redirect lead to are the image's files,
// whose owners the mount translates, while those of the container's own files are the
// host's already. The diff has the container's.
func TestDiffFollowsMetacopyWithAnIDMap(t *testing.T) {
	testutil.HostRoot(t)
	ctx := t.Context()
	for name, set := range waysToMap {
		t.Run(name, func(t *testing.T) {
			cfg := roots(t)
			if set(&cfg); cfg.Driver == "vfs" {
				t.Skip("vfs mounts nothing")
			}
			s := open(t, cfg)
			ownedTree(t, s)
			c, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "img", IDMap: shifted(100000),
				MountOpts: []string{"metacopy=on", "redirect_dir=on"}})
			if err != nil {
				t.Fatal(err)
			}
			path, err := s.Mount(ctx, c.ID, store.MountOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(path, "d/one"), 0o640); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(path, "d"), filepath.Join(path, "moved")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Unmount(ctx, c.ID, false); err != nil {
				t.Fatal(err)
			}
			headers := tarHeaders(t, export(t, s, c.LayerID))
			for path, want := range map[string]struct {
				uid, gid int
				size     int64
			}{"moved/one": {3, 4, 4}, "moved/suid": {5, 6, 1}, "moved/": {1, 2, 0}} {
				h := headers[path]
				if h == nil || h.Uid != want.uid || h.Gid != want.gid || h.Size != want.size {
					t.Errorf("%s: %+v, want %+v", path, h, want)
				}
			}
			if headers[".wh.d"] == nil {
				t.Errorf("the diff doesn't delete d")
			}
		})
	}
}
