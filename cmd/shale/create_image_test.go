package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// An image that is made without a manifest gets one of its layers, and Podman lists it
// with all others. What would keep Podman from that is refused, or noted by check (A6).
func TestImagesThatPodmanLists(t *testing.T) {
	s := newStore(t)
	tar := filepath.Join(s.dir, "base.tar")
	if err := os.WriteFile(tar, tarOf(t, map[string]string{"etc/": "", "etc/f": "x"}), 0o644); err != nil {
		t.Fatal(err)
	}
	s.must("import-layer", "--name", "base", "--file", tar)
	image := s.id("create-image", "--name", "localhost/x:1", "base")
	s.must("create-image", "--name", "localhost/empty:1")
	if keys := s.must("list-image-data", "localhost/x:1"); !strings.Contains(keys, "sha256:"+image) {
		t.Errorf("the config isn't the image's ID: %s", keys)
	}
	bad := filepath.Join(s.dir, "bad")
	for _, data := range []string{"{", "[]", "{}", `{"schemaVersion":2,"config":{"digest":"x"}}`,
		`{"schemaVersion":2,"config":{"digest":"sha256:` + digits("0") + `"}}`} {
		if err := os.WriteFile(bad, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := s.try("create-image", "--data", "manifest="+bad, "base"); got.status != 1 ||
			!strings.Contains(got.stderr, "manifest: invalid") {
			t.Errorf("%s: %+v", data, got)
		}
		if !strings.Contains(data, digits("0")) { // whose config may come later
			if got := s.try("set-image-data", "--file", bad, "localhost/x:1", "manifest"); got.status != 1 {
				t.Errorf("%s set: %+v", data, got)
			}
		}
	}

	// What was written in place has to be made a layer with a digest first.
	s.must("create-layer", "--name", "work", "base")
	got := s.try("create-image", "work")
	if got.status != 1 || !strings.Contains(got.stderr, "no digest") {
		t.Errorf("%+v", got)
	}
	t.Chdir(s.dir)
	s.follow("create-image", "work")
	if got := s.must("check"); got != "" {
		t.Errorf("check: %q", got)
	}
	podman := podmanOn(t, s)
	podman("images")
	podman("system", "df")
	if out := podman("image", "inspect", "--format", "{{.Id}} {{.Os}} {{len .RootFS.Layers}}",
		"localhost/x:1"); strings.TrimSpace(out) != image+" linux 1" {
		t.Errorf("inspect: %q", out)
	}

	s.must("create-image", "--bare", "--name", "localhost/bare:1", "base")
	s.must("create-image", "--bare", "--name", "localhost/written:1", "work")
	if err := os.WriteFile(bad, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := s.asPeer("", "set-image-data", "-f", bad, "localhost/written:1", "manifest"); got.status != 0 {
		t.Fatalf("%+v", got) // as that program does
	}
	for _, note := range []string{"it has no manifest", "written in place", "unexpected end of JSON"} {
		if got := s.must("check"); !strings.Contains(got, note) {
			t.Errorf("check doesn't say %q: %s", note, got)
		}
	}
}

// podmanOn returns what runs the real Podman on the store, where there is one.
func podmanOn(t *testing.T, s *stores) func(args ...string) string {
	t.Helper()
	run, err := os.MkdirTemp("/tmp", "run") // Podman takes none that is longer than 50 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	_, missing := exec.LookPath("podman")
	return func(args ...string) string {
		t.Helper()
		if missing != nil {
			t.Skip("needs podman")
		}
		command := exec.CommandContext(t.Context(), "podman", append([]string{"--root", s.dir + "/root",
			"--runroot", run, "--tmpdir", run, "--storage-driver", "overlay"}, args...)...)
		out, err := command.CombinedOutput()
		if err != nil {
			t.Errorf("podman %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
}
