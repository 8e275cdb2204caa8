package shale_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// parity is what the reference driver does: the methods of containers/storage's overlay
// driver that its library calls, and how it is opened.
var parity = []string{
	"Init", "parseOptions", "SupportsNativeOverlay", "String", "Status", "Metadata",
	"Create", "CreateReadWrite", "CreateFromTemplate", "Remove", "DeferredRemove", "GetTempDirRootDirs",
	"Get", "Put", "Exists", "ListLayers", "Cleanup",
	"Diff", "DiffSize", "Changes", "ApplyDiff", "StartStagingDiffToApply", "CommitStagedLayer",
	"ApplyDiffWithDiffer", "ApplyDiffFromStagingDirectory", "CleanupStagingDirectory", "DifferTarget", "DiffGetter",
	"ReadWriteDiskUsage", "SupportsShifting", "UpdateLayerIDMap", "AdditionalImageStores",
	"LookupAdditionalLayer", "LookupAdditionalLayerByID", "Dedup", "SyncMode",
}

var (
	testFile = regexp.MustCompile("`([a-z_/]+_test\\.go)`")
	testName = regexp.MustCompile(`\bTest[A-Za-z0-9]+`)
)

// The table of docs/overlay.md says of everything that the reference driver does where it
// is here, and which test shows it. The tests must be there.
func TestParityTable(t *testing.T) {
	page, err := os.ReadFile("docs/overlay.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(page), "\n| reference driver |")
	if !ok {
		t.Fatal("docs/overlay.md has no table of the reference driver")
	}
	var named []string
	for i, row := range strings.Split(table, "\n")[2:] {
		cells := strings.Split(row, "|")
		if len(cells) != 6 {
			if row == "" {
				break
			}
			t.Fatalf("row %d has %d cells: %s", i+1, len(cells)-2, row)
		}
		names := strings.Split(strings.TrimSpace(cells[1]), ", ")
		named = append(named, names...)
		checkTests(t, names, cells[3])
	}
	slices.Sort(named)
	if want := slices.Sorted(slices.Values(parity)); !slices.Equal(named, want) {
		t.Errorf("the table tells of\n%v\nand not of\n%v", named, want)
	}
}

// checkTests looks for the tests that a cell names. A file's name goes before its tests.
func checkTests(t *testing.T, names []string, cell string) {
	t.Helper()
	parts := testFile.FindAllStringSubmatchIndex(cell, -1)
	if len(parts) == 0 {
		t.Errorf("%v: no test", names)
	}
	for i, part := range parts {
		end := len(cell)
		if i+1 < len(parts) {
			end = parts[i+1][0]
		}
		path, tests := cell[part[2]:part[3]], testName.FindAllString(cell[part[1]:end], -1)
		source, err := os.ReadFile(path)
		if err != nil || len(tests) == 0 {
			t.Errorf("%v: %s, tests %v: %v", names, path, tests, err)
		}
		for _, test := range tests {
			if !strings.Contains(string(source), "func "+test+"(") {
				t.Errorf("%v: %s has no %s", names, path, test)
			}
		}
	}
}
