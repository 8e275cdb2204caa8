package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What only reads or removes makes no store, and says that there is none.
func TestReadingMakesNoStore(t *testing.T) {
	digest := "sha256:" + digits("0")
	for _, verb := range verbs() {
		name := strings.Fields(verb.names)[0]
		if verb.in&ours == 0 || makes[name] ||
			slices.Contains([]string{"config", "unshare", "storage", "completion", "docs", "version"}, name) {
			continue
		}
		for _, there := range []bool{false, true} {
			dir := t.TempDir()
			graph, run := filepath.Join(dir, "typo"), filepath.Join(dir, "run")
			if there {
				if err := os.MkdirAll(filepath.Join(graph, "my-images"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			flags := []string{"--graph", graph, "--run", run, name}
			got := in(t, "", flags...)
			for _, args := range [][]string{{"--yes"}, {"x"}, {"-m", "x", "y"}, {digest}, {"x", "y"}, {"x", "y", "z"},
				{"x:/etc", dir}} {
				if got.status != statusUsage {
					break
				}
				got = in(t, "", append(flags, args...)...)
			}
			if got.status != statusNotFound || !strings.Contains(got.stderr, "there is no store there") ||
				!strings.Contains(got.stderr, graph) || got.stdout != "" {
				t.Errorf("%s: %+v", name, got)
			}
			if _, err := os.Stat(run); !os.IsNotExist(err) {
				t.Errorf("%s: made the run root: %v", name, err)
			}
			if left := paths(t, dir); !there && len(left) > 1 || len(left) > 3 {
				t.Errorf("%s: left %q", name, left)
			}
		}
	}
}

// A hint leads to where the store is looked for. The other grammar makes a store, as its
// program does, and so does who makes something.
func TestStoresAreMadeByWhatMakes(t *testing.T) {
	s := newStore(t)
	if got := s.try("layers"); got.status != statusNotFound {
		t.Fatalf("%+v", got)
	}
	if printed := s.follow("layers"); !strings.Contains(printed, filepath.Join(s.dir, "root")) {
		t.Errorf("config says %s", printed)
	}
	s.must("create-layer", "--name", "first")
	if got := s.must("layers", "--quiet"); strings.Count(got, "\n") != 1 {
		t.Errorf("%q", got)
	}
	peers := newStore(t)
	if got := peers.asPeer("", "layers"); got.status != 0 || got.stderr != "" {
		t.Errorf("%+v", got)
	}
	peers.must("layers")

	// What other stores hold can be looked at before there is one of one's own.
	own := newStore(t)
	conf := confFile(t, "[storage]\ndriver = \"overlay\"\ngraphroot = \""+own.dir+"/root\"\nrunroot = \""+own.dir+
		"/run\"\n[storage.options]\nadditionalimagestores = [\""+s.dir+"/root\"]\n")
	t.Setenv("CONTAINERS_STORAGE_CONF", conf)
	if got := in(t, "", "layers", "--quiet"); got.status != 0 || strings.Count(got.stdout, "\n") != 1 {
		t.Errorf("%+v", got)
	}
}

// The roots may be links themselves, from the first command on.
func TestRootsMayBeLinks(t *testing.T) {
	s := newStore(t)
	for _, root := range []string{"root", "run"} {
		if err := os.Mkdir(filepath.Join(s.dir, "real-"+root), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("real-"+root, filepath.Join(s.dir, root)); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.try("layers"); got.status != statusNotFound {
		t.Errorf("%+v", got)
	}
	s.must("create-layer", "--name", "first")
	s.must("mount", "first")
	s.must("unmount", "first")
	if got := s.must("check"); got != "" {
		t.Errorf("check: %q", got)
	}
	s.must("gc")
	s.must("delete-layer", "first")
}
