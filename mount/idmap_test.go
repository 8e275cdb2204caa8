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

// Owners in the lower directories are translated, those in the upper aren't, whichever way the kernel takes the directories.
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
				s.IDMap = &idtools.Mapping{UIDs: []idtools.Map{{HostID: 100000, Size: 65536}}, GIDs: []idtools.Map{{HostID: 200000, Size: 65536}}}
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
