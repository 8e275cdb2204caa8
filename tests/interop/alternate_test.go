// Package interop lets Shale and containers-storage share one store: in turns, and all at
// once.
package interop

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// TestAlternate tells one story twice, with the parts exchanged: what one tool writes,
// the other lists, mounts, diffs, stacks on, names and deletes, and the other way round,
// in one root.
func TestAlternate(t *testing.T) {
	testutil.Root(t)
	shale, peer := harness.Shale(t), harness.Peer(t)
	t.Run("shale begins", func(t *testing.T) { alternate(t, shale, peer) })
	t.Run("the peer begins", func(t *testing.T) { alternate(t, peer, shale) })
}

func alternate(t *testing.T, one, other harness.Tool) {
	dir := t.TempDir()
	s := story{t, harness.NewRoot(dir)}
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	archive := harness.SmallArchive(t, dir, "base", 250, 900)

	// One imports; both see the same record, the same tree and the same bytes.
	base := s.id(s.must(one, "import-layer", "-f", archive.Path, "-n", "base", "-n", "other-name"))
	s.agree("layers", "-j")
	s.exports(base, archive.Digest, one, other)
	s.sameTree(base, one, other)

	// The other stacks a writable layer on it and changes real files; both tell the same
	// changes.
	child := s.id(s.must(other, "create-layer", "-n", "child", "base"))
	s.agree("layers", "-j")
	mounted := s.must(other, "mount", child)
	change(t, mounted)
	want := testutil.Snapshot(t, mounted)
	s.must(other, "unmount", child)
	s.agreeOnChanges(child)
	s.agree("diff", "-u", child)
	s.agree("diffsize", child)

	// Both mount it: the count is one for both.
	at := s.must(one, "mount", child)
	if again := s.must(other, "mount", child); again != at {
		t.Errorf("%s mounts at %s, %s at %s", one.Name, at, other.Name, again)
	}
	testutil.SameTree(t, want, testutil.Snapshot(t, at))
	for _, tool := range []harness.Tool{one, other} {
		s.agree("mounted", child)
		if points, _ := testutil.MountsBelow(s.root.Graph); len(points) != 1 {
			t.Errorf("before %s unmounts: mounted are %v", tool.Name, points)
		}
		s.must(tool, "unmount", child)
	}
	if points, _ := testutil.MountsBelow(s.root.Graph); len(points) != 0 {
		t.Errorf("after both unmounted: %v", points)
	}

	// The exported diff becomes a layer of the other tool's, equal to the first.
	diff := filepath.Join(dir, "child.tar")
	s.must(one, "diff", "-u", "-f", diff, child)
	twin := s.id(s.must(one, "import-layer", "-f", diff, "-n", "twin", base))
	applied := s.id(s.must(other, "create-layer", "-n", "applied", base))
	s.must(other, "applydiff", "-f", diff, applied)
	s.agree("layers", "-j")
	digest, err := harness.FileDigest(diff)
	if err != nil {
		t.Fatal(err)
	}
	s.exports(twin, digest, one, other)
	s.exports(applied, digest, one, other)
	for _, copy := range []string{twin, applied} {
		got := testutil.Snapshot(t, s.must(other, "mount", copy))
		s.must(one, "unmount", copy)
		testutil.SameTree(t, wholeSeconds(want), wholeSeconds(got))
	}

	// Names, metadata and big data.
	s.must(other, "add-names", "-n", "renamed", base)
	s.must(one, "remove-names", "-n", "other-name", "renamed")
	s.agree("get-names", base)
	s.must(other, "set-names", "-n", "base", base)
	s.must(one, "set-metadata", "-m", "said by "+one.Name, base)
	s.agree("metadata", base)
	s.must(other, "set-layer-data", "-f", archive.Path, base, "Some/Key")
	s.agree("list-layer-data", base)
	s.agree("get-layer-data", base, "Some/Key")
	s.agree("layers", "-j")
	s.agree("layer", "-j", "child")

	// An image and a container each, and the rules that keep what they need.
	image := s.id(s.must(one, "create-image", "-n", "image", "-m", "text", twin))
	container := s.id(s.must(other, "create-container", "-n", "container", "image"))
	s.must(one, "set-image-data", "-f", archive.Path, image, "manifest-x")
	s.must(other, "set-container-data", "-f", archive.Path, container, "config")
	for _, args := range [][]string{
		{"images", "-j"}, {"containers", "-j"}, {"layers", "-j"}, {"image", "-j", image},
		{"container", "-j", container},
		{"get-image-data-digest", image, "manifest-x"}, {"get-container-data-size", container, "config"},
		{"exists", image}, {"exists", "-c", container}, {"exists", "-l", image}, {"exists", "nothing"},
	} {
		s.agree(args...)
	}
	for _, tool := range []harness.Tool{one, other} {
		s.refused(tool, "delete-layer", base)
		s.refused(tool, "delete-layer", twin)
		s.refused(tool, "delete-image", image)
	}
	s.must(one, "mount", container)
	s.must(other, "unmount", container)

	// Each deletes what the other made; nothing is left.
	s.must(one, "delete-container", container)
	s.must(other, "delete-image", image) // its layer goes too
	s.agree("layers", "-j")
	s.must(other, "delete-layer", child)
	s.must(one, "delete-layer", applied)
	s.agree("layers", "-j")
	s.must(other, "delete-layer", base)
	s.agree("layers", "-j")
	if left, err := s.root.Layers(t.Context(), one); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	found, err := s.root.Audit()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range append(found.Broken, found.Stale...) {
		t.Errorf("left behind: %s", line)
	}
}

type story struct {
	t    *testing.T
	root harness.Root
}

func (s story) must(tool harness.Tool, args ...string) string {
	s.t.Helper()
	return s.root.Must(s.t, tool, args...)
}

// id is the first line of a command's output; names follow it.
func (s story) id(out string) string {
	id, _, _ := strings.Cut(out, "\n")
	return id
}

// agree runs a command with both tools, which must give the same exit code and output:
// byte for byte, or for JSON the same values.
func (s story) agree(args ...string) {
	s.t.Helper()
	s.compare(func(out string) any {
		if slices.Contains(args, "-j") {
			if value, err := decode(out); err == nil {
				return value
			}
		}
		return out
	}, args...)
}

func decode(text string) (value any, err error) {
	err = json.Unmarshal([]byte(text), &value)
	return value, err
}

// agreeOnChanges compares change lists in any order. Of a directory that was removed and
// made again the peer says that it is deleted. Shale says that it is modified, and names
// each child that is gone.
func (s story) agreeOnChanges(layer string) {
	s.t.Helper()
	theirs, err := s.root.Do(s.t.Context(), harness.Peer(s.t), "changes", layer)
	if err != nil {
		s.t.Fatal(err)
	}
	var again []string // the paths of such directories, as both quote them, without the last quote
	for line := range strings.Lines(theirs) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "Delete ")
		path = strings.TrimSuffix(path, `"`)
		if ok && strings.Contains(theirs, "Add "+path+"/") {
			again = append(again, path)
		}
	}
	if len(again) == 0 {
		s.t.Errorf("layer %s: no directory was made again", layer)
	}
	s.compare(func(out string) any {
		lines := strings.Split(out, "\n")
		for _, path := range again {
			if i := slices.Index(lines, "Modify "+path+`"`); i >= 0 {
				lines[i] = "Delete " + path + `"`
			}
			lines = slices.DeleteFunc(lines, func(line string) bool {
				return strings.HasPrefix(line, "Delete "+path+"/")
			})
		}
		slices.Sort(lines)
		return lines
	}, "changes", layer)
}

func (s story) compare(value func(string) any, args ...string) {
	s.t.Helper()
	shale, peer := harness.Shale(s.t), harness.Peer(s.t)
	out, err := s.root.Do(s.t.Context(), shale, args...)
	peerOut, peerErr := s.root.Do(s.t.Context(), peer, args...)
	if code(err) != code(peerErr) {
		s.t.Errorf("%v: shale: exit %d (%v), peer: exit %d (%v)", args, code(err), err, code(peerErr), peerErr)
	}
	if !reflect.DeepEqual(value(out), value(peerOut)) {
		s.t.Errorf("%v: the answers differ\nshale: %s\npeer:  %s", args, excerpt(out), excerpt(peerOut))
	}
}

func excerpt(out string) string {
	if len(out) > 1500 {
		return out[:1500] + "…"
	}
	return out
}

func code(err error) int {
	if err == nil {
		return 0
	}
	var e *harness.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return -1
}

func (s story) refused(tool harness.Tool, args ...string) {
	s.t.Helper()
	if out, err := s.root.Do(s.t.Context(), tool, args...); code(err) != 1 {
		s.t.Errorf("%s %v: want a refusal with exit code 1, got %v: %s", tool.Name, args, err, out)
	}
}

func (s story) exports(id, digest string, tools ...harness.Tool) {
	s.t.Helper()
	for _, tool := range tools {
		if got, err := s.root.Digest(s.t.Context(), tool, id); err != nil || got != digest {
			s.t.Errorf("%s exports %s as %s, want %s: %v", tool.Name, id, got, digest, err)
		}
	}
}

func (s story) sameTree(id string, tools ...harness.Tool) {
	s.t.Helper()
	var first map[string]string
	for _, tool := range tools {
		tree := testutil.Snapshot(s.t, s.must(tool, "mount", id))
		s.must(tool, "unmount", id)
		if first == nil {
			first = tree
		}
		testutil.SameTree(s.t, first, tree)
	}
	if len(first) < 10 {
		s.t.Errorf("%s is mounted as %v", id, slices.Sorted(maps.Keys(first)))
	}
}

var fraction = regexp.MustCompile(`( mtime=-?\d+)\.\d+`)

// wholeSeconds cuts times down to what a generated diff keeps of them, and leaves out the
// root directory, which is in no diff.
func wholeSeconds(tree map[string]string) map[string]string {
	cut := make(map[string]string, len(tree))
	for path, line := range tree {
		if path != "." {
			cut[path] = fraction.ReplaceAllString(line, "$1")
		}
	}
	return cut
}

// change does to a mounted layer what containers do: one of each kind of change.
func change(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, "base", name) }
	for _, err := range []error{
		os.WriteFile(at("000/1"), []byte("other content"), 0o644),
		os.Remove(at("000/2")),
		os.Rename(at("000/3"), at("000/renamed")),
		os.Chmod(at("000/4"), 0o711|os.ModeSetuid),
		os.Lchown(at("000/5"), 12, 34),
		os.RemoveAll(at("001")), // a directory replaced by another: opaque
		os.Mkdir(at("001"), 0o711),
		os.RemoveAll(at("002")), // and one by a file
		os.WriteFile(at("002"), nil, 0o600),
		os.Chmod(at("000"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	testutil.Tree(t, dir,
		"base/001/new=content 0600 7:8 @1600000000.5",
		"new/deep/er/file*3000 user.k=v",
		"new/hard=>new/deep/er/file",
		"new/link->../base/000/1",
		"new/pipe|",
		"new/null%1:3 0666")
}
