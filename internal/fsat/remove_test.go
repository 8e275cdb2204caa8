package fsat_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

func remove(t *testing.T, path string) {
	t.Helper()
	if err := fsat.RemoveAll(context.Background(), path); err != nil {
		t.Fatal(err)
	}
	if exists(path) {
		t.Fatalf("%s is still there", path)
	}
}

func TestRemoveEachType(t *testing.T) {
	dir := t.TempDir()
	testutil.Tree(t, dir, "file=x", "empty/", "full/a=1", "full/b/c=2", "full/b/d->nowhere", "fifo|", "link->full",
		"dangling->nowhere",
		"full/\n=newline", "full/\xff\xfe=bytes")
	for _, name := range []string{"file", "empty", "link", "dangling", "fifo", "full", "missing", "missing/below"} {
		remove(t, filepath.Join(dir, name))
	}
	for _, path := range []string{"", ".", "..", "/"} {
		if err := fsat.RemoveAll(context.Background(), path); !errors.Is(err, unix.EINVAL) {
			t.Errorf("RemoveAll(%q): %v, want EINVAL", path, err)
		}
	}
}

func TestRemoveManyFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	for i := range 20 {
		for j := range 300 {
			mustWrite(t, filepath.Join(dir, strconv.Itoa(i), strconv.Itoa(j%7), strconv.Itoa(j)), "")
		}
	}
	remove(t, dir)
}

func TestRemoveDeepTree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	makeDeep(t, dir, 4096)
	withFewDescriptors(t)
	remove(t, dir)
}

func TestRemoveDoesNotFollowSymlinks(t *testing.T) {
	out, unchanged := outside(t)
	dir := t.TempDir()
	testutil.Tree(t, dir, "tree/to-dir->"+out, "tree/sub/to-file->"+out+"/precious", "tree/up->..", "tree/sub/root->/",
		"top->"+out)
	remove(t, filepath.Join(dir, "top"))
	remove(t, filepath.Join(dir, "tree"))
	unchanged()
}

// A directory and a symlink to another place swap names all the time while the tree is
// being removed.
func TestRemoveWhileNamesAreSwapped(t *testing.T) {
	out, unchanged := outside(t)
	dir := t.TempDir()
	for round := range 60 {
		tree := filepath.Join(dir, strconv.Itoa(round))
		for _, d := range []string{"a", "b", "c"} {
			for i := range 8 {
				mustWrite(t, filepath.Join(tree, d, "sub", strconv.Itoa(i)), "")
			}
		}
		link := filepath.Join(dir, "link")
		if err := os.Symlink(out, link); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		var swapper sync.WaitGroup
		swapper.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				d := filepath.Join(tree, []string{"a", "b", "c"}[n%3])
				_ = unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, d, unix.RENAME_EXCHANGE)
			}
		})
		err := fsat.RemoveAll(context.Background(), tree)
		close(done)
		swapper.Wait()
		if err != nil && !errors.Is(err, unix.ENOTEMPTY) {
			t.Fatal(err)
		}
		unchanged()
		remove(t, tree)
		remove(t, link)
	}
	unchanged()
}

func TestRemoveTakesMountsOff(t *testing.T) {
	testutil.Root(t)
	out, unchanged := outside(t)
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	testutil.Tree(t, tree, "bind/", "tmpfs/", "stack/", "deep/er/bind/", "file=under", "sub/x=y")
	mount(t, out, filepath.Join(tree, "bind"), "", unix.MS_BIND)
	mount(t, out, filepath.Join(tree, "deep/er/bind"), "", unix.MS_BIND)
	mount(t, filepath.Join(out, "precious"), filepath.Join(tree, "file"), "", unix.MS_BIND)
	mount(t, "none", filepath.Join(tree, "tmpfs"), "tmpfs", 0)
	mustWrite(t, filepath.Join(tree, "tmpfs/inside"), "")
	for range 3 {
		mount(t, out, filepath.Join(tree, "stack"), "", unix.MS_BIND)
	}
	remove(t, tree)
	unchanged()
	if left, err := testutil.MountsBelow(dir); err != nil || len(left) > 0 {
		t.Errorf("mounts left: %v, %v", left, err)
	}

	testutil.Tree(t, dir, "self/hidden=x")
	mount(t, out, filepath.Join(dir, "self"), "", unix.MS_BIND)
	remove(t, filepath.Join(dir, "self"))
	unchanged()
}

func TestRemoveImmutable(t *testing.T) {
	testutil.Root(t)
	chattr := testutil.Tool(t, "chattr", "e2fsprogs")
	dir := filepath.Join(testutil.LoopFS(t, "ext4", 32), "tree")
	testutil.Tree(t, dir, "file=x", "append=x", "sub/file=x", "sub/deep/file=x", "log/a=x", "log/b/", "empty/")
	for _, args := range [][]string{
		{"+i", "file", "sub/deep/file", "sub/deep", "sub", "empty"},
		{"+a", "append", "log"},
		{"+i", "."},
	} {
		cmd := exec.Command(chattr, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("chattr: %v: %s", err, out)
		}
	}
	remove(t, dir)
}

func TestRemoveBtrfsSubvolume(t *testing.T) {
	testutil.Root(t)
	btrfs := testutil.Tool(t, "btrfs", "btrfs-progs")
	dir := filepath.Join(testutil.LoopFS(t, "btrfs", 128), "tree")
	testutil.Tree(t, dir, "sub/file=x")
	create := exec.Command(btrfs, "subvolume", "create", filepath.Join(dir, "sub/volume"))
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mustWrite(t, filepath.Join(dir, "sub/volume/d/inside"), "x")
	remove(t, dir)
}

func TestRemoveWhatLocksItsOwnerOut(t *testing.T) {
	if !testutil.AsUser(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "tree")
	testutil.Tree(t, dir, "closed/deep/file=x", "readonly/file=x", "searchable/sub/file=x")
	for _, d := range []string{"closed/deep", "closed", "readonly", "searchable/sub"} {
		if err := os.Chmod(filepath.Join(dir, d), map[string]os.FileMode{"readonly": 0o555}[d]); err != nil {
			t.Fatal(err)
		}
	}
	remove(t, dir)
}

func TestRemoveInUserNamespace(t *testing.T) {
	if !testutil.InUserNS(t) {
		return
	}
	out, unchanged := outside(t)
	dir := filepath.Join(t.TempDir(), "tree")
	testutil.Tree(t, dir, "bind/", "sub/file=x", "link->"+out)
	mount(t, out, filepath.Join(dir, "bind"), "", unix.MS_BIND)
	remove(t, dir)
	unchanged()
}

func TestRemoveStopsWhenCancelled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	for i := range 50 {
		mustWrite(t, filepath.Join(dir, strconv.Itoa(i), "file"), "")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := fsat.RemoveAll(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want context.Canceled", err)
	}
	if !exists(filepath.Join(dir, "0", "file")) {
		t.Error("a cancelled removal has removed something")
	}
	remove(t, dir)
}
