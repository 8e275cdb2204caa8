package testutil_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testutil.Main(m) }

func TestTreeComesBackAsDescribed(t *testing.T) {
	dir := t.TempDir()
	testutil.Tree(t, dir,
		"d/ 0700 @1700000000.25",
		`d/f="two words" 0640 @-1.5 user.note="a b"`,
		"d/hard=>d/f",
		"d/link->../elsewhere",
		"deep/er/noise*5000",
		"pipe| 0600")
	tree := testutil.Snapshot(t, dir)
	for path, want := range map[string][]string{
		"d":             {"dir ", "mode=0700", "mtime=1700000000.250000000"},
		"d/f":           {"file ", "mode=0640", "mtime=-2.500000000", "size=9", `user.note="a b"`, "links=d/f"},
		"d/hard":        {"links=d/f"},
		"d/link":        {"symlink ", `target="../elsewhere"`},
		"deep/er/noise": {"size=5000"},
		"pipe":          {"fifo ", "mode=0600"},
	} {
		for _, part := range want {
			if !strings.Contains(tree[path]+" ", part) {
				t.Errorf("%s: %q lacks %q", path, tree[path], part)
			}
		}
	}
	if len(tree) != 9 {
		t.Errorf("%d paths, want 9: %v", len(tree), tree)
	}
}

func TestDiffSeesEachKindOfChange(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"content":   func(dir string) error { return os.WriteFile(dir+"/f", []byte("text"[:3]+"T"), 0o644) },
		"mode":      func(dir string) error { return os.Chmod(dir+"/f", 0o600) },
		"time":      func(dir string) error { return testutil.MakeTree(dir, "f=text @1.000000001") },
		"xattr":     func(dir string) error { return unix.Setxattr(dir+"/f", "user.k", []byte("w"), 0) },
		"missing":   func(dir string) error { return os.Remove(dir + "/f") },
		"more":      func(dir string) error { return os.Mkdir(dir+"/more", 0o755) },
		"link":      func(dir string) error { return os.Remove(dir + "/hard") },
		"target":    func(dir string) error { os.Remove(dir + "/l"); return os.Symlink("b", dir+"/l") },
		"type":      func(dir string) error { os.Remove(dir + "/l"); return os.Mkdir(dir+"/l", 0o777) },
		"dir times": func(dir string) error { return testutil.MakeTree(dir, "e/ @5") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			testutil.Tree(t, dir, "f=text @1 user.k=v", "hard=>f", "l->a", "e/ @2", "./ @3")
			before := testutil.Snapshot(t, dir)
			if lines := testutil.Diff(before, testutil.Snapshot(t, dir)); lines != nil {
				t.Fatalf("unchanged, yet: %v", lines)
			}
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			if lines := testutil.Diff(before, testutil.Snapshot(t, dir)); lines == nil {
				t.Error("the change was not seen")
			}
		})
	}
}

func TestWithoutDropsOneField(t *testing.T) {
	tree := map[string]string{"f": `file mode=0644 mtime=5.0 user.a="x \" y" links=f`}
	for field, want := range map[string]string{
		"mtime":  `file mode=0644 user.a="x \" y" links=f`,
		"user.a": `file mode=0644 mtime=5.0 links=f`,
		"links":  `file mode=0644 mtime=5.0 user.a="x \" y"`,
		"nope":   tree["f"],
	} {
		if got := testutil.Without(tree, field)["f"]; got != want {
			t.Errorf("without %s: %q, want %q", field, got, want)
		}
	}
}

func TestPowerCutLosesWhatWasNotSynced(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			loop := testutil.NewLoop(t, kind, 320)
			synced, err := os.Create(filepath.Join(loop.Dir, "synced"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := synced.WriteString("safe"); err != nil {
				t.Fatal(err)
			}
			if err := synced.Sync(); err != nil {
				t.Fatal(err)
			}
			synced.Close()
			testutil.Tree(t, loop.Dir, "unsynced=gone")
			for _, step := range []func() error{loop.Cut, loop.Unmount, loop.Mount} {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			if data, err := os.ReadFile(filepath.Join(loop.Dir, "synced")); string(data) != "safe" {
				t.Errorf("the synced file: %q, %v", data, err)
			}
			if data, _ := os.ReadFile(filepath.Join(loop.Dir, "unsynced")); len(data) != 0 {
				t.Error("the unsynced file survived: this is no power cut")
			}
		})
	}
}

// A file system that isn't mounted has no power to be cut, and the one beneath it keeps
// its own.
func TestPowerCutSparesTheFileSystemBeneath(t *testing.T) {
	beneath := testutil.NewLoop(t, "ext4", 64)
	loop, err := testutil.OpenLoop(beneath.Dir, "ext4", 32)
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	if err := loop.Unmount(); err != nil {
		t.Fatal(err)
	}
	if err := loop.Cut(); err == nil {
		t.Error("it was cut off")
	}
	if err := os.WriteFile(filepath.Join(beneath.Dir, "f"), nil, 0o600); err != nil {
		t.Error(err)
	}
}

func TestLoopFSofEachKind(t *testing.T) {
	for kind, magic := range map[string]int64{"ext4": unix.EXT4_SUPER_MAGIC, "xfs": unix.XFS_SUPER_MAGIC,
		"btrfs": unix.BTRFS_SUPER_MAGIC} {
		t.Run(kind, func(t *testing.T) {
			var st unix.Statfs_t
			if err := unix.Statfs(testutil.LoopFS(t, kind, 320), &st); err != nil {
				t.Fatal(err)
			}
			if int64(st.Type) != magic {
				t.Errorf("file system magic %#x, want %#x", st.Type, magic)
			}
		})
	}
}

func TestAsUserIsAnOrdinaryUser(t *testing.T) {
	if !testutil.AsUser(t) {
		return
	}
	if os.Geteuid() == 0 {
		t.Error("still root")
	}
	testutil.Tree(t, t.TempDir(), "f=text")
	testutil.Tree(t, os.Getenv("HOME"), "f=text")
}

func TestInUserNSIsRootThere(t *testing.T) {
	if !testutil.InUserNS(t) {
		return
	}
	if os.Geteuid() != 0 || testutil.OnHost() {
		t.Errorf("uid %d, on the host: %v", os.Geteuid(), testutil.OnHost())
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Error(err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
}
