package fsat_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

func copyTree(t *testing.T, src, dst string) {
	t.Helper()
	if err := os.Mkdir(dst, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := fsat.CopyTree(context.Background(), src, dst); err != nil {
		t.Fatal(err)
	}
}

// ordinary is a tree that any user may make.
var ordinary = []string{
	". 02750 @1700000001.000000001",
	"empty/ 0700 @1500000000.123456789", "file=content 0640 @-1.5", "nothing= 0400",
	"big*3000000 0755 @1600000000.999999999",
	"a/b/c/file=x @1", "a/h1=shared 0604 @77.7", "a/b/h2=>a/h1", "h3=>a/h1", "a/link->../file @1234567890.5",
	"a/dangling->/no/where",
	"a/sticky/ 01777", "setuid=x 06755", "fifo| 0600 @5", "xattr=x user.one=1 user.two=\"a\\x00b\"",
	"xdir/ user.dir=yes @9",
	"names/\xff\xfe=bytes", "names/new\nline=n", "zlast/ 0555 @3",
}

// foreign needs root: owners, devices, privileged attributes.
var foreign = []string{
	"owned=x 0640 1000:2000 @8", "owned-dir/ 123456:7890", "owned-link->file 5:6 @4", "setuid-owned=x 1000:1000 06755",
	"null%1:3 0666 @11", "block%%7:9 0660 0:6", "whiteout%0:0", "opaque/ trusted.overlay.opaque=y", "opaque/file=x",
	"capable=x 0755 " +
		"security.capability=" +
		"\"\\x01\\x00\\x00\\x02\\x00\\x20\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\"",
	"redirect/ trusted.overlay.redirect=/elsewhere", "null-again=>null", "link-again=>owned-link",
}

func makeTree(t *testing.T, dir string, specs []string) {
	t.Helper()
	specs = append(specs[1:len(specs):len(specs)], "./ "+strings.TrimPrefix(specs[0], ". "))
	testutil.Tree(t, dir, specs...)
}

func TestCopyIsEqual(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	specs := ordinary
	if os.Geteuid() == 0 && testutil.OnHost() {
		specs = append(specs[:len(specs):len(specs)], foreign...)
	} else {
		t.Log("without owners, devices and privileged attributes: they need root")
	}
	makeTree(t, src, specs)
	before := testutil.Snapshot(t, src)
	copyTree(t, src, filepath.Join(dir, "dst"))
	testutil.SameTree(t, before, testutil.Snapshot(t, filepath.Join(dir, "dst")))
	testutil.SameTree(t, before, testutil.Snapshot(t, src))
}

func TestCopyAsOrdinaryUser(t *testing.T) {
	if testutil.AsUser(t) {
		TestCopyIsEqual(t)
	}
}

func TestCopyInUserNamespace(t *testing.T) {
	if testutil.InUserNS(t) {
		TestCopyIsEqual(t)
	}
}

// On file systems that can share extents a copy takes no room.
func TestCopyShares(t *testing.T) {
	testutil.Root(t)
	const size = 40 << 20
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			dir := testutil.LoopFS(t, kind, 400)
			src := filepath.Join(dir, "src")
			makeTree(t, src, append(ordinary[:len(ordinary):len(ordinary)], "huge*41943040 0640 @1"))
			if err := fsat.SyncFS(dir); err != nil {
				t.Fatal(err)
			}
			before := used(t, dir)
			copyTree(t, src, filepath.Join(dir, "dst"))
			if err := fsat.SyncFS(dir); err != nil {
				t.Fatal(err)
			}
			if grown := used(t, dir) - before; grown > size/4 {
				t.Errorf("the copy takes %d bytes, want it to share the %d of the original", grown, size)
			}
			testutil.SameTree(t, testutil.Snapshot(t, src), testutil.Snapshot(t, filepath.Join(dir, "dst")))
		})
	}
}

func used(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

func TestCopyToAnotherFileSystem(t *testing.T) {
	testutil.Root(t)
	src, dst := filepath.Join(testutil.LoopFS(t, "xfs", 320), "src"), filepath.Join(testutil.LoopFS(t, "ext4", 64),
		"dst")
	makeTree(t, src, append(ordinary[:len(ordinary):len(ordinary)], foreign...))
	copyTree(t, src, dst)
	testutil.SameTree(t, testutil.Snapshot(t, src), testutil.Snapshot(t, dst))
}

func TestCopyKeepsHoles(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string][]int64{
		"only hole": nil, "data first": {0}, "data last": {16<<20 - 4096}, "in the middle": {1 << 20, 8 << 20},
	} {
		f, err := os.Create(filepath.Join(src, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range at {
			if _, err := f.WriteAt(testutil.Noise(name, 4096), off); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Truncate(16 << 20); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if err := fsat.SyncFS(src); err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(dir, "dst")
	copyTree(t, src, dst)
	testutil.SameTree(t, testutil.Snapshot(t, src), testutil.Snapshot(t, dst))
	entries, _ := os.ReadDir(dst)
	for _, e := range entries {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dst, e.Name()), &st); err != nil {
			t.Fatal(err)
		}
		if st.Blocks*512 > 64<<10 {
			t.Errorf("%q takes %d bytes of disk", e.Name(), st.Blocks*512)
		}
	}
}

func TestCopyDeepTree(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	makeDeep(t, src, 1000)
	t.Cleanup(func() { remove(t, src); remove(t, dst) })
	// Hard links between levels that are copied at different times.
	name := strings.Repeat("d", 100)
	low := filepath.Join(src, strings.Repeat(name+"/", 30), "low")
	mustWrite(t, low, "linked")
	if err := os.Link(low, filepath.Join(src, "high")); err != nil {
		t.Fatal(err)
	}
	withFewDescriptors(t)
	copyTree(t, src, dst)
	wantDirs, wantFiles := levels(t, src)
	if dirs, files := levels(t, dst); dirs != wantDirs || files != wantFiles {
		t.Errorf("copied %d directories and %d files, want %d and %d", dirs, files, wantDirs, wantFiles)
	}
	a, err := os.Stat(filepath.Join(dst, strings.Repeat(name+"/", 30), "low"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.Stat(filepath.Join(dst, "high")); err != nil || !os.SameFile(a, b) {
		t.Errorf("high and low are no longer one file: %v", err)
	}
}

// Hard links from one deep directory to another, beyond what a path can name.
func TestCopyDeepHardLink(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	makeDeep(t, src, 150)
	t.Cleanup(func() { remove(t, src); remove(t, dst) })
	script := `set -e; for i in $(seq 150); do cd -P "$(ls -d d*)"; done; echo x >one; mkdir e; ln one e/two`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = src
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("needs a shell that walks beyond PATH_MAX: %v: %s", err, out)
	}
	copyTree(t, src, dst)
	cmd = exec.Command("sh", "-c",
		`set -e; for i in $(seq 150); do cd -P "$(ls -d d*)"; done; stat -c %h one; test one -ef e/two`)
	cmd.Dir = dst
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "2" {
		t.Errorf("link count %s, %v, want 2 for both names", out, err)
	}
}

func TestCopyDoesNotEnterMounts(t *testing.T) {
	testutil.Root(t)
	out, unchanged := outside(t)
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	testutil.Tree(t, src, "mnt/under=x", "file=x", "link->"+out)
	mount(t, out, filepath.Join(src, "mnt"), "", unix.MS_BIND)
	copyTree(t, src, dst)
	if entries, err := os.ReadDir(filepath.Join(dst, "mnt")); err != nil || len(entries) > 0 {
		t.Errorf("the mount point came out with %v, %v, want it empty", entries, err)
	}
	if target, err := os.Readlink(filepath.Join(dst, "link")); target != out || err != nil {
		t.Errorf("link to %q, %v", target, err)
	}
	unchanged()
}

// A directory that hands down an ACL must not do so to the copies made in it.
func TestCopyIgnoresInheritedACLs(t *testing.T) {
	setfacl := testutil.Tool(t, "setfacl", "acl")
	dir := t.TempDir()
	if out, err := exec.Command(setfacl, "-d", "-m", "u:1234:rwx", dir).CombinedOutput(); err != nil {
		t.Skipf("needs a file system with ACLs: %v: %s", err, out)
	}
	plain := t.TempDir()
	makeTree(t, filepath.Join(plain, "src"), ordinary)
	want := testutil.Snapshot(t, filepath.Join(plain, "src"))
	copyTree(t, filepath.Join(plain, "src"), filepath.Join(dir, "dst"))
	testutil.SameTree(t, want, testutil.Snapshot(t, filepath.Join(dir, "dst")))

	// And one that the tree itself has comes along.
	src := filepath.Join(dir, "acl")
	testutil.Tree(t, src, "sub/file=x", "sub/deeper/")
	grant := exec.Command(setfacl, "-m", "u:1234:r", filepath.Join(src, "sub/file"))
	if out, err := grant.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	copyTree(t, src, filepath.Join(plain, "acl"))
	testutil.SameTree(t, testutil.Snapshot(t, src), testutil.Snapshot(t, filepath.Join(plain, "acl")))
}

func TestCopyIntoWhatIsNotEmpty(t *testing.T) {
	dir := t.TempDir()
	testutil.Tree(t, dir, "src/file=new", "dst/file=old")
	err := fsat.CopyTree(context.Background(), filepath.Join(dir, "src"), filepath.Join(dir, "dst"))
	if !errors.Is(err, unix.EEXIST) {
		t.Errorf("%v, want EEXIST", err)
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "dst/file")); string(data) != "old" {
		t.Errorf("dst/file is %q now", data)
	}
}

func TestCopyStopsWhenCancelled(t *testing.T) {
	dir := t.TempDir()
	testutil.Tree(t, dir, "src/file=x", "dst/")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := fsat.CopyTree(ctx, filepath.Join(dir, "src"), filepath.Join(dir, "dst")); !errors.Is(err,
		context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}
