package shale_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The table "Where do I find" of docs/architecture.md leads to files that are there.
func TestMapOfTheHouse(t *testing.T) {
	page, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "## Where do I find …")
	table, _, _ := strings.Cut(rest, "\n## ")
	rows := 0
	for line := range strings.Lines(table) {
		names := regexp.MustCompile("`([a-z_/]+\\.go)`").FindAllStringSubmatch(line, -1)
		if len(names) > 0 {
			rows++
		}
		for _, name := range names {
			if _, err := os.Stat(name[1]); err != nil {
				t.Errorf("%s: %v", strings.TrimSpace(line), err)
			}
		}
	}
	if rows < 30 {
		t.Errorf("the table has %d rows", rows)
	}
}
