package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The page in docs has a place for everything that a run writes, and writing it again changes nothing else.
func TestReportFillsThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "performance.md")
	if err := os.WriteFile(path, page, 0o644); err != nil {
		t.Fatal(err)
	}
	r := &results{Counts: map[string]float64{gateCalls: 4.4}}
	for _, ext := range []string{".tar", ".tar.gz", ".tar.zst"} {
		for i, name := range contestants() {
			r.add("apply base"+ext, name, float64(i+1))
			r.addCPU("apply base"+ext, name, []float64{float64(i + 1)})
		}
	}
	var once string
	for range 2 {
		if err := r.report(dir); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if once != "" && string(got) != once {
			t.Error("the second time it is another page")
		}
		once = string(got)
	}
	for _, want := range []string{"| apply base.tar.gz | 1s | 2.00x | 3.00x | 4.00x | 5.00x |", "| apply, system calls an entry | 8 | 5 | 4.4 | aim reached |", "(apply.svg)", "## Durability"} {
		if !strings.Contains(once, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
