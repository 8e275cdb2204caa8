package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The page in docs has a place for everything that a run writes, and writing it again
// changes nothing else.
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
	rec, err := newRecord(r)
	if err != nil {
		t.Fatal(err)
	}
	var once string
	for range 2 {
		if err := rec.report(dir); err != nil {
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
	for _, want := range []string{"| apply base.tar.gz | 1s | 2.00x | 3.00x | 4.00x | 5.00x |",
		"| apply, system calls an entry | 8 | 5 | 4.4 | aim reached |", "(apply.svg)", "## What is durable when"} {
		if !strings.Contains(once, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// A part that is measured again takes its rows' places in the whole run, and nobody
// else's.
func TestPartOfAReport(t *testing.T) {
	dir := t.TempDir()
	whole := &results{Counts: map[string]float64{gateCalls: 4.4}}
	whole.add("open and get one of 1", "shale", 1)
	whole.add("mount on 1 lowers", "shale", 2)
	rec, err := newRecord(whole)
	if err != nil {
		t.Fatal(err)
	}
	part := &results{}
	part.add("mount on 1 lowers", "shale", 3)
	again, err := newRecord(part)
	if err != nil {
		t.Fatal(err)
	}
	again.Command = []string{"-bench", "depth"}
	if _, err := again.on(dir); err == nil {
		t.Error("a part of nothing is no error")
	}
	if err := rec.write(filepath.Join(dir, recordFile)); err != nil {
		t.Fatal(err)
	}
	both, err := again.on(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := both.results()
	if got := r.row("open and get one of 1").median("shale"); len(r.rows) != 2 || got != 1 ||
		r.Counts[gateCalls] != 4.4 {
		t.Errorf("%d rows, the first %v, counts %v", len(r.rows), got, r.Counts)
	}
	if got := r.row("mount on 1 lowers").median("shale"); got != 3 {
		t.Errorf("the part again is %v, want 3", got)
	}
	if want := "; a part again on " + again.Date + " with `bench -bench depth`.\n"; !strings.HasSuffix(both.setting(),
		want) {
		t.Errorf("the setting %q lacks %q", both.setting(), want)
	}
	both.Kernel = "another"
	if err := both.write(filepath.Join(dir, recordFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := again.on(dir); err == nil {
		t.Error("a part measured on another kernel is no error")
	}
}
