package fsat_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// acl is an ACL with an entry for a user and one for a group (linux/posix_acl_xattr.h),
// as a description of a tree takes it.
func acl(user, group uint32) string {
	entry := func(tag, permissions uint16, id uint32) []byte {
		b := binary.LittleEndian.AppendUint16(nil, tag)
		return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(b, permissions), id)
	}
	const none = 1<<32 - 1
	b := []byte{2, 0, 0, 0}
	for _, e := range [][]byte{entry(0x01, 7, none), entry(0x02, 5, user), entry(0x04, 5, none), entry(0x08, 4, group),
		entry(0x10, 7, none), entry(0x20, 0, none)} {
		b = append(b, e...)
	}
	return strconv.Quote(string(b))
}

// capability is CAP_NET_RAW on a file, for the namespace whose root is root; 0 stands for
// every namespace's, which is the second revision.
func capability(root uint32) string {
	b := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if root != 0 {
		b[3] = 3
		b = binary.LittleEndian.AppendUint32(b, root)
	}
	return strconv.Quote(string(b))
}

// ownedTree describes everything that depends on owners or suffers when they change, with
// owners so much higher. Above 900 nobody has a counterpart.
func ownedTree(by uint32) []string {
	own := func(uid, gid uint32) string { return fmt.Sprintf("%d:%d", uid+by, gid+2*by) }
	return []string{
		"d/ 1775 @1600000000.5 " + own(1, 2), "d/suid=x 4755 @1600000001.25 " + own(5, 6), "d/sgid=y 2750 @-1 " +
			own(7, 8), "d/both=z 6111 @7 " + own(0, 0),
		"d/one=many 4600 @1600000002 " + own(3, 4), "a=>d/one", "d/three=>d/one", "e/four=>d/one",
		"e/ 2755 @1600000003 " + own(1, 1),
		"d/link->suid @8 " + own(9, 9), "linked->nowhere @9 " + own(9, 9), "alias=>linked",
		"cap=x 0755 @5 " + own(0, 0) + " security.capability=" + capability(0), "capsuid=x 4755 @5 " + own(1, 0) +
			" security.capability=" + capability(0),
		"caprooted=x 0755 @5 " + own(0, 0) + " security.capability=" + capability(100+by), "capstranger=x 0755 @5 " +
			own(0, 0) + " security.capability=" + capability(1<<20),
		"acl/ 2770 @6 " + own(1, 1) + " system.posix_acl_default=" + acl(11+by, 12+2*by) + " system.posix_acl_access=" +
			acl(13+by, 14+2*by),
		"acl/f=a 4640 @6 " + own(1, 1) + " system.posix_acl_access=" + acl(15+by, 16+2*by),
		"acl/stranger=a 0640 @6 " + own(1, 1) + " system.posix_acl_access=" + acl(1<<20, 16+2*by),
		"zero%0:0 0 @4 " + own(1, 1), "dev%5:1 0666 @4 " + own(0, 5), "fifo| 0600 @4 " + own(20, 20),
		"user=u 0644 @3 " + own(800, 800) + " user.k=v trusted.k=v",
		"locked/ 0000 @2 " + own(4, 4), "locked/f=x 0000 @1 " + own(4, 4),
	}
}

// upBy raises owners.
func upBy(by uint32) fsat.Owners {
	up := func(by uint32) func(uint32) (uint32, bool) {
		return func(id uint32) (uint32, bool) { return id + by, id < 900 }
	}
	return fsat.Owners{
		File: func(uid, gid uint32) (uint32, uint32, error) { return uid + by, gid + 2*by, nil },
		UID:  up(by), GID: up(2 * by),
	}
}

// Owners change and nothing else does, neither on a plain file system nor through
// overlayfs, where each chown copies a file up and parts its names.
func TestChownChangesOwnersAlone(t *testing.T) {
	testutil.HostRoot(t)
	const by = 1000
	dir := t.TempDir()
	for _, name := range []string{"want", "plain", "lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testutil.Tree(t, filepath.Join(dir, "want"), ownedTree(by)...)
	testutil.Tree(t, filepath.Join(dir, "plain"), ownedTree(0)...)
	testutil.Tree(t, filepath.Join(dir, "lower"), ownedTree(0)...)
	merged := filepath.Join(dir, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0,
		fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work,index=off", dir, dir, dir)); err != nil {
		t.Fatal(err)
	}
	defer testutil.UnmountBelow(dir)
	want := testutil.Snapshot(t, filepath.Join(dir, "want"))
	delete(want, ".") // its times are the moment's
	for _, name := range []string{"plain", "merged"} {
		t.Run(name, func(t *testing.T) {
			tree := filepath.Join(dir, name)
			if err := fsat.ChownTree(t.Context(), tree, upBy(by)); err != nil {
				t.Fatal(err)
			}
			got := testutil.Snapshot(t, tree)
			delete(got, ".")
			if name == "merged" {
				delete(want, "zero") // a whiteout, which hides itself
			}
			testutil.SameTree(t, want, got)
			var st unix.Stat_t
			if err := unix.Stat(tree, &st); err != nil || st.Uid != by || st.Gid != 2*by {
				t.Errorf("the directory itself: %d:%d, %v", st.Uid, st.Gid, err)
			}
		})
	}
}

// What keeps its owner isn't touched at all: its change time stays.
func TestChownLeavesTheRestAlone(t *testing.T) {
	testutil.HostRoot(t)
	dir := t.TempDir()
	testutil.Tree(t, dir, "f=x 4755 5:5", "d/g=x 6:6 security.capability="+capability(0))
	changed := func() (times []unix.Timespec) {
		for _, name := range []string{"", "f", "d", "d/g"} {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
				t.Fatal(err)
			}
			times = append(times, st.Ctim)
		}
		return times
	}
	before := changed()
	if err := fsat.ChownTree(t.Context(), dir, upBy(0)); err != nil {
		t.Fatal(err)
	}
	after := changed()
	for n, what := range []string{"the directory itself", "f", "d", "d/g"} {
		if before[n] != after[n] {
			t.Errorf("%s was changed", what)
		}
	}
}

// An owner that can't be translated ends it, with the path.
func TestChownSaysWhere(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	testutil.Tree(t, dir, "d/e/f=x")
	class := errors.New("nobody's")
	owners := upBy(0)
	owners.File = func(uid, gid uint32) (uint32, uint32, error) { return 0, 0, class }
	if err := fsat.ChownTree(t.Context(), dir, owners); !errors.Is(err, class) {
		t.Errorf("got %v", err)
	}
	if err := fsat.ChownTree(t.Context(), filepath.Join(dir, "none"), owners); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a tree that isn't there: %v", err)
	}
}
