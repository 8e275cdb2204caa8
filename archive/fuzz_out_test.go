package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

// FuzzReplay feeds any lines to the replay. What comes out without an error must be what
// tar-split's own reader makes of them.
func FuzzReplay(f *testing.F) {
	dir := f.TempDir()
	testutil.Tree(f, dir, "a=hello", "d/b=world", "l->d")
	f.Add(`{"type":2,"payload":"YWJj","position":0}` + "\n" + fileLine("a", "hello") + fileLine("./d/b", "world"))
	f.Add(fileLine("l/b", "world") + `{"type":1,"name":"x","payload":null,"position":1}`)
	f.Add(`{"type":1,"name_raw":"/w==","size":5,"payload":"AAAAAAAAAAA="}`)
	f.Add(`{ "type" : 2 , "payload" : "\u0059WJj" }` + "\n\n")
	f.Add(fileLine("../a", "hello"))
	f.Fuzz(func(t *testing.T, lines string) {
		var out bytes.Buffer
		if tarsplit.Replay(t.Context(), &out, bytes.NewReader(gzipped(t, lines)), []string{dir}) != nil {
			return
		}
		var want bytes.Buffer
		err := asm.WriteOutputTarStream(&rootedFiles{dir}, storage.NewJSONUnpacker(strings.NewReader(lines)), &want)
		if errors.Is(err, storage.ErrDuplicatePath) { // a limit of that reader
			return
		}
		if err != nil || !bytes.Equal(out.Bytes(), want.Bytes()) {
			t.Errorf("%q for %q; tar-split has %q, %v", out.Bytes(), lines, want.Bytes(), err)
		}
	})
}

type rootedFiles struct{ dir string }

func (r *rootedFiles) Get(name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(r.dir, filepath.Join("/", name)))
}

// FuzzChanges makes an upper and two lowers of what the fuzzer says, and holds the change
// list, the tar and the comparison of trees against each other.
func FuzzChanges(f *testing.F) {
	f.Add([]byte("f0a d0b w1c f2a o0b"))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220, 240, 255})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 60 {
			return
		}
		if os.Geteuid() != 0 {
			t.Skip("whiteouts need root")
		}
		dir := t.TempDir()
		trees := []string{dir + "/upper", dir + "/1", dir + "/2"}
		for _, tree := range trees {
			if err := os.Mkdir(tree, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for len(script) >= 3 {
			op, tree, where := script[0], trees[script[1]%3], script[2]
			script = script[3:]
			makeOne(tree, op, where)
		}
		checkOut(t, trees[0], trees[1:])
	})
}

// makeOne makes one file of a small set of names; what doesn't work, as under a file, is
// left out.
func makeOne(tree string, op, where byte) {
	names := []string{"a", "b", "c", "a-b"}
	path := filepath.Join(tree, names[where&3])
	for where >>= 2; where > 0; where >>= 2 {
		path = filepath.Join(path, names[where&3])
	}
	switch op % 8 { // what can't be made isn't there
	case 0, 1:
		_ = os.MkdirAll(path, 0o755)
	case 2:
		_ = os.WriteFile(path, []byte(path), 0o644)
	case 3:
		_ = unix.Mknod(path, unix.S_IFCHR, 0)
	case 4:
		_ = os.MkdirAll(path, 0o755)
		_ = unix.Lsetxattr(path, "trusted.overlay.opaque", []byte("y"), 0)
	case 5:
		_ = os.Symlink("../"+names[op>>3&3], path)
	case 6:
		_ = unix.Mkfifo(path, 0o600)
	case 7:
		_ = os.Link(filepath.Join(tree, names[op>>3&3]), path)
	}
}

func checkOut(t *testing.T, upper string, lowers []string) {
	t.Helper()
	changes, err := diff.OverlayChanges(t.Context(), upper, lowers, false)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := diff.WriteOverlay(t.Context(), &out, upper, lowers, false, diff.Options{}); err != nil {
		t.Fatal(err)
	}
	// Each entry of the tar is a change or a directory that looks as it did; each change
	// is in the tar, a deletion as a whiteout.
	inTar := map[string]bool{}
	for _, h := range tarHeaders(t, out.Bytes()) {
		inTar["/"+strings.TrimSuffix(h.Name, "/")] = true
	}
	seen := map[string]bool{}
	for _, c := range changes {
		if seen[c.Path] {
			t.Errorf("%s is listed twice", c.Path)
		}
		seen[c.Path] = true
		parent, base := filepath.Split(c.Path)
		opaque := false // it, or a directory above it, hides all that lowers have there
		for up := c.Path; up != "/"; up = filepath.Dir(up) {
			opaque = opaque || inTar[up+"/.wh..wh..opq"]
		}
		if c.Kind == diff.Deleted && !inTar[parent+".wh."+base] && !opaque {
			t.Errorf("%s is deleted without a whiteout", c.Path)
		}
		if c.Kind != diff.Deleted && !inTar[c.Path] {
			t.Errorf("%s is not in the tar", c.Path)
		}
	}
	for _, h := range tarHeaders(t, out.Bytes()) {
		if h.Typeflag != tar.TypeDir && !strings.HasPrefix(filepath.Base(h.Name), ".wh.") && !seen["/"+h.Name] {
			t.Errorf("%s is in the tar and no change", h.Name)
		}
	}
	added, err := diff.TreeChanges(t.Context(), upper, "", diff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	removed, err := diff.TreeChanges(t.Context(), lowers[0], upper, diff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(added, func(a, b diff.Change) int {
		return slices.Compare(strings.Split(a.Path, "/"), strings.Split(b.Path, "/"))
	}) {
		t.Error("a new tree's files are not in the order of a walk")
	}
	for _, list := range [][]diff.Change{added, removed} {
		names := map[string]bool{}
		for _, c := range list {
			if names[c.Path] {
				t.Errorf("%s is listed twice", c.Path)
			}
			names[c.Path] = true
		}
	}
}
