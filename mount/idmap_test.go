package mount_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// Owners in the lower directories are translated, those in the upper aren't, whichever
// way the kernel takes the directories.
func TestOverlayWithIDMap(t *testing.T) {
	testutil.HostRoot(t) // whose alone ID-mapped mounts are
	for way, perform := range map[string]func(context.Context, mount.Spec) error{
		"detached": mount.Perform, "attached": mount.PerformAttached,
	} {
		for _, n := range []int{1, 2, 500} {
			t.Run(fmt.Sprintf("%s/%d", way, n), func(t *testing.T) {
				s := stack(t, n, "store")
				for i, dir := range s.Lower {
					must(t, os.Lchown(filepath.Join(dir, "who"), 7, 8))
					must(t, os.Lchown(filepath.Join(dir, fmt.Sprint("file", i)), i, i))
				}
				must(t, os.WriteFile(filepath.Join(s.Upper, "own"), nil, 0o644))
				must(t, os.Lchown(filepath.Join(s.Upper, "own"), 5, 6))
				s.IDMap = &idtools.Mapping{UIDs: []idtools.Map{{HostID: 100000, Size: 65536}},
					GIDs: []idtools.Map{{HostID: 200000, Size: 65536}}}
				s.MapDir = filepath.Join(filepath.Dir(s.Target), "mapped")
				must(t, perform(t.Context(), s))
				check := func(name string, uid, gid uint32) {
					t.Helper()
					var st unix.Stat_t
					must(t, unix.Lstat(filepath.Join(s.Target, name), &st))
					if st.Uid != uid || st.Gid != gid {
						t.Errorf("%s belongs to %d:%d, want %d:%d", name, st.Uid, st.Gid, uid, gid)
					}
				}
				check("who", 100007, 200008)
				check(fmt.Sprint("file", n-1), 100000+uint32(n-1), 200000+uint32(n-1))
				check("own", 5, 6)
				// What is copied up keeps the owner it shows.
				must(t, os.WriteFile(filepath.Join(s.Target, "who"), []byte("x"), 0o644))
				check("who", 100007, 200008)
				var st unix.Stat_t
				must(t, unix.Lstat(filepath.Join(s.Upper, "who"), &st))
				if st.Uid != 100007 || st.Gid != 200008 {
					t.Errorf("copied up as %d:%d", st.Uid, st.Gid)
				}
				below, err := testutil.MountsBelow(filepath.Dir(s.Target))
				if err != nil || len(below) != 1 {
					t.Errorf("mounted: %v, %v", below, err)
				}
			})
		}
	}
}

// The kernel of Debian 12 has ID-mapped lower directories, and takes them by path alone.
func TestOverlayWithIDMapInVM(t *testing.T) {
	testutil.VM(t)
	TestOverlayWithIDMap(t)
}

// Lower directories that don't lie side by side show the same as ever: one is a mount
// point, one lies beneath a mount that covers another directory, one is reached over a
// symlink, one is on a file system of its own.
func TestMappedLowersFromAnywhere(t *testing.T) {
	testutil.HostRoot(t)
	for way, perform := range map[string]func(context.Context, mount.Spec) error{
		"detached": mount.Perform, "attached": mount.PerformAttached,
	} {
		t.Run(way, func(t *testing.T) {
			s := stack(t, 5, "store")
			elsewhere := stack(t, 2, "elsewhere")
			must(t, unix.Mount(elsewhere.Lower[0], s.Lower[1], "", unix.MS_BIND, ""))
			must(t, unix.Mount(filepath.Dir(elsewhere.Lower[1]), filepath.Dir(s.Lower[2]), "", unix.MS_BIND, ""))
			must(t, os.RemoveAll(s.Lower[3]))
			must(t, os.Symlink("../elsewhere-too", s.Lower[3]))
			must(t, os.Mkdir(filepath.Join(filepath.Dir(filepath.Dir(s.Lower[3])), "elsewhere-too"), 0o755))
			must(t, unix.Mount("tmpfs", s.Lower[4], "tmpfs", 0, "mode=755"))
			t.Cleanup(func() {
				for _, dir := range []string{s.Lower[1], filepath.Dir(s.Lower[2]), s.Lower[4]} {
					must(t, mount.Unmount(dir))
				}
			})
			for i, dir := range s.Lower {
				must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("here", i)), nil, 0o644))
				must(t, os.Lchown(filepath.Join(dir, fmt.Sprint("here", i)), i, i))
			}
			s.IDMap = &idtools.Mapping{UIDs: []idtools.Map{{HostID: 100000, Size: 65536}},
				GIDs: []idtools.Map{{HostID: 200000, Size: 65536}}}
			s.MapDir = filepath.Join(filepath.Dir(s.Target), "mapped")
			must(t, perform(t.Context(), s))
			for i := range s.Lower {
				var st unix.Stat_t
				must(t, unix.Lstat(filepath.Join(s.Target, fmt.Sprint("here", i)), &st))
				if st.Uid != uint32(100000+i) || st.Gid != uint32(200000+i) {
					t.Errorf("here%d belongs to %d:%d", i, st.Uid, st.Gid)
				}
			}
		})
	}
}
