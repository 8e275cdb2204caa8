package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
)

// runPeer runs a command of containers-storage on a store.
func runPeer(t *testing.T, path string, s *stores, stdin string, args ...string) result {
	t.Helper()
	command := exec.CommandContext(t.Context(), path, append(s.flags, args...)...)
	var stdout, stderr bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := command.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// digits makes an ID of one digit.
func digits(digit string) string { return strings.Repeat(digit, 64) }

// furnish puts something of every kind into a store: a chain of layers with and without
// names, an image with data, containers, metadata.
func furnish(t *testing.T, do func(stdin string, args ...string) result) {
	t.Helper()
	metadata := filepath.Join(t.TempDir(), "metadata")
	if err := os.WriteFile(metadata, []byte("from a file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	archive := string(tarOf(t, map[string]string{"etc/": "", "etc/passwd": "root:x:0:0\n", "etc/group": "root:x:0:\n"}))
	change := string(tarOf(t, map[string]string{"etc/passwd": "nobody:x:1:1\n", "etc/.wh.group": ""}))
	for _, step := range []struct {
		stdin string
		args  []string
	}{
		{archive, []string{"import-layer", "--id", digits("a"), "--name", "base", "--name", "second"}},
		{change, []string{"import-layer", "--readonly", "--id", digits("b"), digits("a")}},
		{"", []string{"create-layer", "--id", digits("c"), "--name", "quoted \"name\" & <more>", digits("b")}},
		{"", []string{"create-layer", "--id", digits("d"), digits("a")}},
		{change, []string{"applydiff", digits("d")}},
		{"", []string{"create-image", "--id", digits("e"), "--name", "image:1", "--name", "image:latest", "--metadata",
			"words", digits("b")}},
		{`{"schemaVersion":2}`, []string{"set-image-data", digits("e"), "manifest"}},
		{"config", []string{"set-image-data", digits("e"), "config"}},
		{"", []string{"create-image", "--id", digits("f"), ""}},
		{"", []string{"create-container", "--id", digits("1"), "--name", "web", "--metadata-file", metadata,
			"image:1"}},
		{"data of web", []string{"set-container-data", "web", "state"}},
		{"", []string{"create-container", "--id", digits("2"), "--volatile", ""}},
		{"data of base", []string{"set-layer-data", digits("a"), "toc"}},
		{"", []string{"set-metadata", "--metadata", "about base", digits("a")}},
		{"", []string{"add-names", "--name", "third", digits("a")}},
	} {
		if got := do(step.stdin, step.args...); got.status != 0 {
			t.Fatalf("%v: status %d: %s", step.args, got.status, got.stderr)
		}
	}
}

// readings are commands that change nothing.
var readings = [][]string{
	{"layers"}, {"layers", "--quick"}, {"layers", "--json"}, {"layers", "--tree"}, {"layers", "-t", "-q"},
	{"images"}, {"images", "-q"}, {"images", "-j"}, {"containers"}, {"containers", "-j"},
	{"layer", "base"}, {"layer", "-j", "base", digits("b")}, {"layer", "nothing"}, {"layer", "-j", "nothing"},
	{"layer", "aaaa"},
	{"image", "image:1"}, {"image", "-j", "image:1", "image:latest"}, {"image", "nothing"}, {"image", digits("f")},
	{"container", "web"}, {"container", "-j", "web"}, {"container", "nothing"}, {"container", digits("2")},
	{"images-by-digest", "sha256:47e1b2a1c32c2a4ee9cba2a6d3bbc6ab9bdcdab5a9ff4dbee5a67a6ef9ff1b31"},
	{"images-by-digest", "-j", "sha256:47e1b2a1c32c2a4ee9cba2a6d3bbc6ab9bdcdab5a9ff4dbee5a67a6ef9ff1b31"},
	{"exists", "base"}, {"exists", "-q", "base"}, {"exists", "-j", "base", "nothing"}, {"exists", "-l", "base"},
	{"exists", "-i", "base"},
	{"exists", "-c", "web"}, {"exists", "-l", "-i", "base"}, {"exists", "nothing"},
	{"metadata", "base"}, {"metadata", "-q", "base", "web"}, {"metadata", "-j", "web"}, {"metadata", "-j", "nothing"},
	{"metadata", "image:1"},
	{"get-names", "base"}, {"get-names", "-j", "image:1"}, {"getnames", digits("d")}, {"get-names", "-j", digits("d")},
	{"get-names", "nothing"},
	{"list-layer-data", "base"}, {"list-layer-data", "-j", "base"}, {"list-layer-data", "-j", digits("b")},
	{"get-layer-data", "base", "toc"},
	{"list-image-data", "image:1"}, {"list-image-data", "-j", "image:1"}, {"get-image-data", "image:1", "config"},
	{"get-image-data", "image:1", "nothing"},
	{"get-image-data-size", "image:1", "manifest"}, {"get-image-data-digest", "image:1", "manifest"},
	{"get-image-data-size", "image:1", "nothing"},
	{"list-container-data", "web"}, {"get-container-data", "web", "state"}, {"get-container-data-size", "web", "state"},
	{"get-container-data-digest", "web", "state"},
	// By ID: given a name, containers-storage makes a directory of that name, which it
	// finds nothing in later.
	{"get-image-dir", digits("e")}, {"get-image-run-dir", digits("e")}, {"get-container-dir", "web"},
	{"get-container-run-dir", "web"}, {"get-container-dir", "nothing"},
	{"changes", digits("b")}, {"changes", "-j", digits("b")}, {"changes", digits("d")},
	{"changes", digits("d"), digits("a")}, {"changes", "-j", digits("c")}, {"changes", "nothing"},
	{"diffsize", digits("b")}, {"diffsize", digits("d")}, {"diffsize", digits("c")}, {"diffsize", "nothing"},
	{"diff", digits("a")}, {"diff", "-u", digits("b")}, {"diff", "--uncompressed", digits("d")}, {"diff", "nothing"},
	{"diff", "-x", digits("a")},
	{"mounted", "base"}, {"mounted", "-j", "base"}, {"mounted", "nothing"},
	{"status"}, {"status", "-j"},
	{"delete-image", "--test", "image:1"}, {"delete-image", "-t", "-j", "image:1"},
}

// sameOutput compares what two programs did. Words of errors are each program's own, and
// so is the order in which a map is printed.
func sameOutput(t *testing.T, args []string, ours, theirs result) {
	t.Helper()
	if ours.status != theirs.status {
		t.Errorf("%v: status %d, containers-storage has %d\nours: %s%s\ntheirs: %s%s", args, ours.status, theirs.status,
			ours.stdout, ours.stderr, theirs.stdout, theirs.stderr)
		return
	}
	if mask(ours.stdout) != mask(theirs.stdout) {
		t.Errorf("%v: output differs\nours:   %q\ntheirs: %q", args, ours.stdout, theirs.stdout)
	}
	if ours.status == 0 && mask(ours.stderr) != mask(theirs.stderr) {
		t.Errorf("%v: stderr differs\nours:   %q\ntheirs: %q", args, ours.stderr, theirs.stderr)
	}
}

// mask hides what may differ: times, IDs drawn at random, the words of errors, and what
// the drivers can do beyond what is shown here.
func mask(text string) string {
	for _, differs := range []struct{ what, as string }{
		{`"created":"[^"]*"`, `"created":"then"`},
		{`"(error|nothing)":"([^"\\]|\\.)+"`, `"$1":"some error"`},
		{`\b[0-9a-f]*([0-9][a-f]|[a-f][0-9])[0-9a-f]{30,}\b`, "random"},
		{`(Supports shifting"?[:,] ?"?)(true|false)`, "$1"},
	} {
		text = regexp.MustCompile(differs.what).ReplaceAllString(text, differs.as)
	}
	return text
}

// Both programs say the same of the same store.
func TestReadingLikePeer(t *testing.T) {
	testutil.Root(t) // the peer needs more than one ID
	path := testutil.Peer(t)
	s := newStore(t)
	furnish(t, func(stdin string, args ...string) result { return s.asPeer(stdin, args...) })
	for _, args := range readings {
		// Theirs comes first: what prints sorted or in the order of a file must not
		// depend on who looked before.
		theirs := runPeer(t, path, s, "", args...)
		sameOutput(t, args, s.asPeer("", args...), theirs)
	}
}

// Both programs say the same while they do the same to two stores.
func TestWritingLikePeer(t *testing.T) {
	testutil.Root(t) // the peer needs more than one ID
	path := testutil.Peer(t)
	ours, theirs := newStore(t), newStore(t)
	both := func(stdin string, args ...string) result {
		here, there := ours.asPeer(stdin, args...), runPeer(t, path, theirs, stdin, args...)
		here.stdout, here.stderr = strings.ReplaceAll(here.stdout, ours.dir, "DIR"),
			strings.ReplaceAll(here.stderr, ours.dir, "DIR")
		there.stdout, there.stderr = strings.ReplaceAll(there.stdout, theirs.dir, "DIR"),
			strings.ReplaceAll(there.stderr, theirs.dir, "DIR")
		sameOutput(t, args, here, there)
		return here
	}
	furnish(t, both)
	for _, args := range [][]string{
		{"create-layer", "--id", digits("a")},
		{"create-layer", "--id", digits("3"), "nothing"},
		{"create-layer", "-j", "--id", digits("3"), "-n", "three", "-n", "drei", digits("b")},
		{"create-image", "-j", "--id", digits("4"), "-n", "four", digits("3")},
		{"create-container", "-j", "--id", digits("5"), "-n", "five", "four"},
		{"create-image", "nothing"},
		{"create-container", "nothing"},
		{"add-names", "-j", "-n", "vier", "four"}, {"remove-names", "-j", "-n", "vier", "four"},
		{"set-names", "-j", "-n", "IV", "four"}, {"set-names", digits("3")},
		{"mount", digits("3")}, {"mount", digits("3")}, {"mounted", digits("3")},
		{"mount", "-j", digits("3"), "nothing"}, {"layers", "-t"},
		{"unmount", digits("3")}, {"unmount", "-j", digits("3")}, {"unmount", digits("3")}, {"mounted", digits("3")},
		{"unmount", "nothing"},
		{"mount", "five"}, {"mount", "five"}, {"umount", "--force", "five"}, {"mounted", "five"},
		{"mount", "--read-only", "image:1"}, {"mount", "--ro", digits("e")}, {"mount", "-r", "nothing"},
		{"unmount", "image:1"}, {"unmount", "-j", digits("e")},
		{"delete-layer", digits("a")}, {"delete-image", "IV"}, {"delete-image", "-j", "nothing"},
		{"delete-container", "-j", "five", "nothing"},
		{"delete-image", "-j", "IV"}, {"delete-image", "IV"}, {"layers"},
		{"delete", "-j", digits("c")}, {"delete", "nothing"},
		{"gc", "-j"}, {"wipe", "-j"}, {"layers", "-j"}, {"storage-layers", "-j"}, {"images", "-j"},
		{"containers", "-j"}, {"layers", "-t"}, {"shutdown", "-j"},
	} {
		both("", args...)
	}
}

// What one program writes, the other describes in the same words, whichever wrote it.
func TestPeersStoreReadsTheSame(t *testing.T) {
	testutil.Root(t) // the peer needs more than one ID
	path := testutil.Peer(t)
	s := newStore(t)
	furnish(t, func(stdin string, args ...string) result { return runPeer(t, path, s, stdin, args...) })
	for _, args := range readings {
		theirs := runPeer(t, path, s, "", args...)
		sameOutput(t, args, s.asPeer("", args...), theirs)
	}
}
