package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
)

// What check and gc print, with which exit status, for people and for programs.
func TestCheckAndGC(t *testing.T) {
	s := newStore(t)
	layer := strings.TrimSpace(s.must("create-layer"))
	if out := s.must("check"); out != "" {
		t.Errorf("of a sound store: %q", out)
	}
	// What nothing uses is no damage, but for containers-storage.
	got := s.try("check", "--max", "0")
	if want := "note: layer " + layer[:12] + ": no image and no container uses it\n"; got.status != 0 ||
		got.stdout != want || got.stderr != "" {
		t.Errorf("%+v", got)
	}
	got = s.asPeer("", "check", "--max", "0")
	if want := " layer " + layer + ": layer not referenced by any images or containers\n"; got.status != 1 ||
		!strings.Contains(got.stdout, want) {
		t.Errorf("%+v", got)
	}
	image := strings.TrimSpace(s.must("create-image", "--bare", "--name", "app", layer))
	stray := strings.TrimSpace(s.must("create-storage-layer"))
	testutil.WriteFile(t, filepath.Join(s.dir, "item"), []byte("item"), 0o600)
	s.must("set-image-data", "-f", filepath.Join(s.dir, "item"), image, "item")
	home, err := filepath.Glob(filepath.Join(s.dir, "root/*-images", image))
	if err != nil || len(home) != 1 {
		t.Fatal(home, err)
	}
	if err := os.Remove(filepath.Join(home[0], "item")); err != nil {
		t.Fatal(err)
	}

	got = s.asPeer("", "check", "--json", "--quick")
	var report struct {
		Layers, ROLayers, Images, ROImages, Containers, Files map[string][]string
		Findings                                              []struct{ Kind, ID, What, Remedy string }
	}
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || got.status != 1 ||
		len(report.Layers[stray]) != 1 || len(report.Findings) != 2 ||
		len(report.Images[image]) != 1 || report.Images[image][0] != "image "+image+
		": data item \"item\": image data item is missing" {
		t.Errorf("%v: %+v", err, got)
	}

	// A line has no ID twice, and says names and the command.
	got = s.try("check", "--quick")
	name := strings.TrimSpace(strings.Split(s.must("names", image), "\n")[0])
	if want := "image " + image[:12] + " (" + name + "):\n  data item \"item\": image data item is missing\n" +
		"  `shale check --repair` writes the item again, where its content can be had, " +
		"or deletes the image\n"; got.status != 3 ||
		!strings.Contains(got.stdout, want) || !strings.Contains(got.stdout, "`shale gc` removes it\n") ||
		strings.Contains(got.stdout, image) || strings.Contains(got.stdout, stray) {
		t.Errorf("%+v, want %q", got, want)
	}

	if got = s.try("gc", "--dry-run"); got.status != 0 || !strings.Contains(got.stdout, stray) ||
		!strings.Contains(got.stdout, "to be freed") {
		t.Errorf("%+v", got)
	}
	if out := s.must("storage-layers"); !strings.Contains(out, stray) {
		t.Errorf("a dry run has removed it: %s", out)
	}
	if out := s.must("gc"); !strings.Contains(out, stray) || !strings.Contains(out, "freed") {
		t.Errorf("gc says %q", out)
	}
	if got := s.asPeer("", "gc"); got.status != 0 || got.stdout != "" {
		t.Errorf("as containers-storage gc says %+v", got)
	}
	if out := s.must("storage-layers"); strings.Contains(out, stray) || !strings.Contains(out, layer) {
		t.Errorf("after gc: %s", out)
	}

	if out := s.must("check", "-r"); !strings.Contains(out, "repaired: image "+image[:12]+" ("+name+"): deleted") {
		t.Errorf("%s", out)
	}
	if out := s.must("check"); out != "" {
		t.Errorf("after repair: %q", out)
	}
}
