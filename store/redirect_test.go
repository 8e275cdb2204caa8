package store_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// A container mounted with metacopy and redirect_dir leaves files without content and directories under new names in its own directory. Its
// diff must hold the content all the same, and the whole of a renamed directory.
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
		if err == io.EOF {
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
	changes, err := s.Changes(ctx, work.ID, "")
	if err != nil || len(changes) < 3 {
		t.Errorf("changes: %v, %v", changes, err)
	}
}
