package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/store/usage"
)

func TestUsage(t *testing.T) {
	s := newStore(t)
	file := filepath.Join(s.dir, "a.tar")
	if err := os.WriteFile(file, tarOf(t, map[string]string{"f": strings.Repeat("x", 100_000)}), 0o644); err != nil {
		t.Fatal(err)
	}
	base := s.id("import-layer", "--file", file)
	top := s.id("import-layer", "--file", file, base)
	s.must("create-image", "--name", "one", base)
	two := s.id("create-image", "--name", "two", top)

	shown := s.must("usage")
	lines := strings.Split(shown, "\n")
	if !strings.HasPrefix(lines[0], "IMAGE ") || !strings.HasSuffix(lines[0], " FREED") ||
		!strings.HasPrefix(lines[1], two[:12]) {
		t.Errorf("the larger image isn't first:\n%s", shown)
	}
	for n, line := range lines[1:3] { // right-aligned under their heads
		if len(line) != len(lines[0]) {
			t.Errorf("line %d isn't as long as its head:\n%s", n+1, shown)
		}
	}
	if !strings.Contains(shown, "0 containers, 2 images and 2 layers take ") || !strings.Contains(shown, "\nLAYER ") {
		t.Errorf("sums:\n%s", shown)
	}
	if some := s.must("usage", "--top", "1", "--sort", "name", "images"); !strings.Contains(some, "one") ||
		strings.Contains(some, two[:12]) || strings.Contains(some, "LAYER") {
		t.Errorf("one image by name:\n%s", some)
	}

	// The form is fixed: programs read it.
	var report struct {
		Containers, Images, Layers []struct {
			Kind, ID                     string
			Names                        []string
			Total, Unique, Shared, Freed struct{ Bytes, Inodes int64 }
			Users                        int
			Basis                        string
		}
		Total, Unused struct{ Bytes, Inodes int64 }
		FileSystem    struct {
			Path string
			Size struct{ Bytes int64 }
		} `json:"file-system"`
	}
	d := json.NewDecoder(strings.NewReader(s.must("usage", "--json")))
	if err := d.Decode(&report); err != nil {
		t.Fatal(err)
	}
	if report.Containers == nil || len(report.Images) != 2 || report.Images[0].ID != two ||
		report.Images[0].Kind != "image" || report.Images[0].Unique.Bytes < 100_000 ||
		report.Images[0].Shared != report.Layers[1].Total || report.Layers[0].Basis != "cache" ||
		report.Total.Inodes == 0 || report.FileSystem.Size.Bytes == 0 {
		t.Errorf("%+v", report)
	}

	for want, args := range map[string][]string{"volumes": {"volumes"}, "--sort colour": {"--sort", "colour"},
		"--top -1": {"--top", "-1"}} {
		if got := s.try(append([]string{"usage"}, args...)...); got.status != 2 || !strings.Contains(got.stderr, want) {
			t.Errorf("usage %v: %d, %s", args, got.status, got.stderr)
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %q", n, got)
		}
	}
	if bytesCell(usage.Space{}) != "-" || bytesCell(usage.Space{Bytes: 1500}) != "1.5 kB" {
		t.Error("cells of bytes")
	}
}
