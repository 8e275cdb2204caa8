package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever is asked for in JSON is one JSON value, and an empty list is [].
func TestJSONIsOneValue(t *testing.T) {
	s := newStore(t)
	s.must("delete-layer", s.id("create-layer"))
	for _, args := range []string{"layers", "images", "containers", "storage-layers",
		"images-by-digest sha256:" + digits("a")} {
		if got := s.must(append(strings.Fields(args), "--json")...); got != "[]\n" {
			t.Errorf("%s of an empty store: %q", args, got)
		}
	}
	base := s.id("create-layer", "--name", "base")
	s.id("create-layer", "--name", "work", "base")
	image := s.id("create-image", "--bare", "--name", "image:1", "base")
	s.id("create-container", "--name", "web", "image:1")
	for _, args := range []string{
		"layers", "images", "containers", "layer base", "image image:1", "container web", "exists base", "metadata web",
		"get-names base", "list-layer-data base", "list-image-data image:1", "list-container-data web", "changes work",
		"mount work", "mount work", "mounted work base", "unmount work", "unmount work base", "unmount work",
		"layer-parent-owners base", "container-parent-owners web", "create-layer", "create-image --bare base",
		"create-container --name web2 image:1", "add-names --name more base", "status", "version", "config", "usage",
		"check",
		"gc", "gc --dry-run", "storage-layers", "create-storage-layer", "delete-layer work",
		"delete-container web web2",
		"delete-image --dry-run image:1", "wipe --yes", "shutdown",
	} {
		got := s.try(append(strings.Fields(args), "--json")...)
		d := json.NewDecoder(strings.NewReader(got.stdout))
		var value any
		if err := d.Decode(&value); err != nil || value == nil || d.More() || got.status != 0 ||
			strings.Contains(got.stdout, "null") {
			t.Errorf("%s --json: %v, %+v", args, err, got)
		}
	}
	// What fails is an error on stderr beside the JSON of the rest.
	got := s.try("layer", "--json", base)
	if got.status != statusNotFound || got.stdout != "[]\n" || !strings.Contains(got.stderr, base) {
		t.Errorf("%+v, %s is gone", got, image)
	}
}

func TestFormats(t *testing.T) {
	s := newStore(t)
	file := filepath.Join(s.dir, "a.tar")
	if err := os.WriteFile(file, tarOf(t, map[string]string{"f": "x"}), 0o644); err != nil {
		t.Fatal(err)
	}
	base := s.id("import-layer", "--name", "base", "--name", "second", "--file", file)
	work := s.id("create-layer", "--name", "wo\u200brk", "base")
	s.must("create-image", "--name", "image:1", base)
	for _, c := range []struct{ format, want string }{
		{"{{.ID}} {{.Parent}}", base + " \n" + work + " " + base + "\n"},
		{`{{join .Names ","}} {{.Compression}}`, "base,second none\nwo\u200brk \n"},
		{"{{json .Names}}", "[\"base\",\"second\"]\n[\"wo\u200brk\"]\n"},
	} {
		if got := s.must("layers", "--format", c.format); got != c.want {
			t.Errorf("%s: %q, want %q", c.format, got, c.want)
		}
	}
	lines := strings.Split(strings.TrimSpace(s.must("layers", "--format", "jsonl")), "\n")
	if len(lines) != 2 || !json.Valid([]byte(lines[0])) || !strings.Contains(lines[0], `"compression":"none"`) {
		t.Errorf("jsonl: %q", lines)
	}
	table, wide := s.must("layers"), s.must("layers", "--format", "wide")
	if strings.Contains(table, base) || !strings.Contains(table, base[:12]) || !strings.Contains(table, "base +1") ||
		strings.Count(table, "\n") != 3 || !strings.Contains(table, `"wo\u200brk"`) {
		t.Errorf("table:\n%s", table)
	}
	if !strings.Contains(wide, base) || !strings.Contains(wide, "base,second") || !strings.Contains(wide, "sha256:") {
		t.Errorf("wide:\n%s", wide)
	}
	if got := s.must("layers", "--quiet"); got != base+"\n"+work+"\n" {
		t.Errorf("--quiet: %q", got)
	}
	if got := s.try("layers", "--format", "{{.Nonsense}}"); got.status != statusUsage {
		t.Errorf("a field that is none: %+v", got)
	}
}

// A path that is no UTF-8 comes out of JSON as it went in.
func TestPathsAreLossless(t *testing.T) {
	s := newStore(t)
	s.must("create-layer", "--name", "work", s.id("create-layer"))
	at := strings.TrimSpace(s.must("mount", "work"))
	const name = "caf\xe9"
	if err := os.WriteFile(filepath.Join(at, name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.must("unmount", "work")
	var changes []struct {
		Kind, Path string
		Bytes      string `json:"path-base64"`
	}
	if err := json.Unmarshal([]byte(s.must("changes", "work", "--json")), &changes); err != nil || len(changes) != 1 {
		t.Fatalf("%v: %+v", err, changes)
	}
	path, err := base64.StdEncoding.DecodeString(changes[0].Bytes)
	if err != nil || string(path) != "/"+name || changes[0].Kind != "add" {
		t.Errorf("%q, %v: %+v", path, err, changes)
	}
}

// mount says nothing of what it has not mounted.
func TestMountOfNothingPrintsNothing(t *testing.T) {
	s := newStore(t)
	s.must("create-layer", "--name", "base")
	if got := s.try("mount", "nosuch"); got.status != statusNotFound || got.stdout != "" {
		t.Errorf("%+v", got)
	}
	got := s.try("mount", "nosuch", "base")
	if got.status != statusNotFound || strings.Count(got.stdout, "\n") != 1 || !strings.HasPrefix(got.stdout, "/") {
		t.Errorf("%+v", got)
	}
	s.must("unmount", "base")
	if got := s.asPeer("", "mount", "nosuch"); got.status != 1 || got.stdout != "\n" {
		t.Errorf("as containers-storage: %+v", got)
	}
}

func TestWipeWantsAYes(t *testing.T) {
	s := newStore(t)
	s.must("create-layer", "--name", "base")
	if got := s.try("wipe"); got.status != statusUsage || !strings.Contains(got.stderr, "--yes") {
		t.Errorf("%+v", got)
	}
	s.must("layer", "base")
	for _, c := range []struct {
		answer string
		left   bool
	}{{"\n", true}, {"no\n", true}, {"y\n", false}} {
		end, tty := openTerminal(t)
		command := s.process("wipe")
		command.Stdin, command.Stderr = tty, tty
		if _, err := end.WriteString(c.answer); err != nil {
			t.Fatal(err)
		}
		err := command.Run()
		if left := s.try("exists", "base").status == 0; left != c.left || (err != nil) != c.left {
			t.Errorf("after %q: %v, left: %v", c.answer, err, left)
		}
	}
	s.must("create-layer")
	if got := s.asPeer("", "wipe"); got.status != 0 || s.must("layers", "--json") != "[]\n" {
		t.Errorf("as containers-storage: %+v", got)
	}
}

func TestVersionIsOnStandardOutput(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if got := in(t, "", args...); got.status != 0 || got.stderr != "" || !strings.Contains(got.stdout, "ersion") {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if got := inAs(t, peerName, "", "version"); got.stdout != "" || !strings.Contains(got.stderr, "Version: ") {
		t.Errorf("as containers-storage: %+v", got)
	}
}

// Called by the name, and by the word, the other grammar answers.
func TestPeersGrammarByNameAndWord(t *testing.T) {
	s := newStore(t)
	s.must("create-layer", "--name", "base")
	byName := s.process("layers", "--json")
	byName.Args[0] = filepath.Join("/usr/bin", peerName)
	shown, err := byName.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"storage", "layers", "--json"}, {"storage", "--debug=false", "layers", "-j"}} {
		if got := s.must(args...); got != string(shown) {
			t.Errorf("%v: %q, and by name %q", args, got, shown)
		}
	}
	if got := s.try("storage", "layer", "gone"); got.status != 1 ||
		!strings.HasPrefix(got.stderr, "shale: storage layer: ") ||
		!strings.Contains(got.stderr, "`shale storage layers`") {
		t.Errorf("%+v", got)
	}
}
