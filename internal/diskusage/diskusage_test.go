package diskusage_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/internal/diskusage"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testutil.Main(m) }

func count(t *testing.T, dir string) diskusage.Tree {
	t.Helper()
	tree, err := diskusage.Count(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// Sizes are those of the files, what is allocated that of their blocks; what has two
// names is one file.
func TestCount(t *testing.T) {
	dir := t.TempDir()
	testutil.Tree(t, dir, "a*100000", "d/b=>a", "d/e/c*5", "link->somewhere", "hole*0", "fifo|")
	if err := os.Truncate(filepath.Join(dir, "hole"), 1<<40); err != nil {
		t.Fatal(err)
	}
	tree := count(t, dir)
	if want := int64(100_000 + 5 + len("somewhere") + 1<<40); tree.Size != want || tree.Inodes != 8 {
		t.Errorf("%+v, want %d bytes in 8 inodes", tree, want)
	}
	if tree.Allocated < 100_000 || tree.Allocated > 300_000 {
		t.Errorf("%d bytes allocated for 100,005 in files, three directories and a hole", tree.Allocated)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "a"), &st); err != nil || diskusage.Allocated(&st) < 100_000 {
		t.Errorf("allocated for one file: %d, %v", diskusage.Allocated(&st), err)
	}
}

// What is mounted in the tree is another's, whatever it holds.
func TestCountStaysOnTheFileSystem(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	testutil.Tree(t, dir, "a*10", "m/")
	before := count(t, dir)
	if err := unix.Mount("tmpfs", filepath.Join(dir, "m"), "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(filepath.Join(dir, "m"), unix.MNT_DETACH)
	testutil.Tree(t, dir, "m/f*1000", "m/d/g*1000")
	if after := count(t, dir); after.Size != before.Size || after.Inodes != before.Inodes ||
		after.Allocated > before.Allocated {
		t.Errorf("%+v, before the mount %+v", after, before)
	}
}

// A tree deeper than directories are kept open, and deeper than any path can name.
func TestCountGoesDeep(t *testing.T) {
	dir := t.TempDir()
	const depth = 200
	at, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	for range depth {
		if err == nil {
			err = unix.Mkdirat(at, "a-name-of-some-length-that-makes-the-path-too-long", 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		above := at
		at, err = unix.Openat(above, "a-name-of-some-length-that-makes-the-path-too-long", unix.O_DIRECTORY, 0)
		unix.Close(above)
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(at)
	testutil.Tree(t, dir, "z*7")
	if tree := count(t, dir); tree.Size != 7 || tree.Inodes != depth+2 {
		t.Errorf("%+v, want 7 bytes in %d inodes", tree, depth+2)
	}
}

func TestCountFails(t *testing.T) {
	if _, err := diskusage.Count(t.Context(), t.TempDir()+"/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a tree that isn't there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := diskusage.Count(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// A stamp stays as long as the file does, and tells whatever is done to it.
func TestStamp(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "d")
	stamp := func() string {
		t.Helper()
		s, err := diskusage.Stamp(path)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if got := stamp(); got != "-" {
		t.Errorf("of nothing: %q", got)
	}
	seen := map[string]string{stamp(): "nothing"}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"made", func() error { return os.Mkdir(path, 0o755) }},
		{"renamed over", func() error {
			return errors.Join(os.Mkdir(path+"2", 0o755), os.Remove(path), os.Rename(path+"2", path))
		}},
		{"replaced by a file", func() error {
			return errors.Join(os.Remove(path),
				os.WriteFile(path, []byte("12"), 0o600))
		}},
		{"longer", func() error { return os.WriteFile(path, []byte("123"), 0o600) }},
		{"a symlink to nowhere", func() error {
			return errors.Join(os.Remove(path),
				os.Symlink("nowhere-at-all", path))
		}},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		now := stamp()
		if before, again := seen[now]; again {
			t.Errorf("%s: the same stamp as %s", step.what, before)
		}
		if stamp() != now {
			t.Errorf("%s: two stamps of one file", step.what)
		}
		seen[now] = step.what
	}
}
