package corpus

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/tests/harness"
)

var update = flag.Bool("update", false, "write the table of docs/archives.md anew")

// TestDecisions imports each of the foreign archives, and compares what became of it with
// what GNU tar and the peer make of the same bytes. The outcome is the table in
// docs/archives.md: a row that has changed fails the test, -update writes it.
func TestDecisions(t *testing.T) {
	testutil.HostRoot(t)
	root, err := testutil.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(root, "docs", "archives.md")
	old, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, table, ok := strings.Cut(string(old), tableHead)
	if !ok {
		t.Fatalf("%s has no table", page)
	}
	var rows strings.Builder
	counts := map[string]int{}
	for _, c := range foreign() {
		row := kept(table, c.name)
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "archive")
			c.put(t, path)
			ours, by := decide(t, path)
			counts[ours]++
			was := row
			row = fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", c.name, c.has, ours, by[0], by[1], c.why)
			if row != was && !*update {
				t.Errorf("the page says\n%snow it is\n%s", was, row)
			}
		})
		rows.WriteString(row)
	}
	t.Logf("%d archives: %v", len(foreign()), counts)
	if *update {
		if err := os.WriteFile(page, []byte(head+tableHead+rows.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const tableHead = "| archive | what it has | Shale | GNU tar | containers-storage | why |\n|---|---|---|---|---|---|\n"

func kept(table, name string) string {
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| "+name+" |") {
			return line
		}
	}
	return ""
}

// decide says what Shale does with an archive, and what GNU tar and the peer do.
func decide(t *testing.T, path string) (ours string, by [2]string) {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	cfg := config.Config{GraphRoot: dir + "/root", RunRoot: dir + "/run", Driver: "overlay"}
	s, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	archive, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	var tree map[string]string
	layer, refused := s.ImportLayer(t.Context(), layers.CreateOptions{}, archive, nil)
	if refused == nil {
		tree = content(t, cfg.GraphRoot+"/overlay/"+layer.ID+"/diff")
		plain, out := compress.None, bytes.Buffer{}
		if err := s.Diff(t.Context(), &out, layer.ID, "", store.DiffOptions{Compression: &plain}); err != nil {
			t.Errorf("it doesn't come out again: %v", err)
		}
		ours = "taken"
	} else {
		t.Log(refused)
		ours = "refused"
	}
	compare := func(err error, dir string) string {
		switch {
		case err != nil:
			return "refused"
		case refused != nil:
			return "taken"
		}
		if lines := testutil.Diff(tree, content(t, dir)); len(lines) > 0 {
			t.Logf("another tree: %.600s", strings.Join(lines, "\n"))
			return "another tree"
		}
		return "same"
	}
	reference := t.TempDir()
	out, err := exec.Command("tar", "-xp", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*",
		"--delay-directory-restore", "-C", reference, "-f", path).CombinedOutput()
	if err != nil {
		t.Logf("tar: %s", out)
	}
	by[0] = compare(err, reference)
	peer := harness.NewRoot(t.TempDir())
	t.Cleanup(func() { testutil.UnmountBelow(peer.Graph) })
	id, err := peer.Do(t.Context(), harness.Peer(t), "import-layer", "-f", path)
	if err != nil {
		t.Log(err)
	}
	id, _, _ = strings.Cut(strings.TrimSpace(id), "\n")
	by[1] = compare(err, peer.Graph+"/overlay/"+id+"/diff")
	return ours, by
}

// content is a tree without what its tools decide for themselves: the directories that no
// entry tells of have the time of their making, and the root whatever attributes.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	tree, err := testutil.ReadTree(dir)
	if err != nil {
		return map[string]string{"": err.Error()}
	}
	delete(tree, ".")
	for name, line := range tree {
		if strings.HasPrefix(line, "dir") {
			tree[name] = firstField(line)
		}
	}
	return tree
}
