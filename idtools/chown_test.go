package idtools_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

func same(from, to, size int) idtools.Mapping {
	m := []idtools.Map{{HostID: to, ContainerID: from, Size: size}}
	return idtools.Mapping{UIDs: m, GIDs: m}
}

func owner(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

// Owners go from one mapping to another; what one of them lacks has its rules.
func TestChownTreeOwners(t *testing.T) {
	testutil.Root(t)
	for name, c := range map[string]struct {
		from, to idtools.Mapping
		is, want string
	}{
		"to a mapping":        {idtools.Mapping{}, same(0, 1000, 10), "1:2", "1001:1002"},
		"back":                {same(0, 1000, 10), idtools.Mapping{}, "1001:1002", "1:2"},
		"from one to another": {same(0, 1000, 10), same(0, 2000, 10), "1009:1000", "2009:2000"},
		"nobody's there":      {idtools.Mapping{}, same(0, 1000, 10), "9:10", "1009:65534"},
		"root's by mistake":   {same(0, 1000, 10), same(0, 2000, 10), "0:0", "2000:2000"},
		"one side of a mapping": {idtools.Mapping{}, idtools.Mapping{UIDs: same(0, 1000, 10).UIDs}, "3:4",
			"1003:4"},
		"the highest IDs there are": {idtools.Mapping{}, same(0, 1<<32-11, 10), "9:9", "4294967294:4294967294"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			testutil.Tree(t, dir, "a/b/f=x "+c.is)
			path := filepath.Join(dir, "a/b")
			if err := idtools.ChownTree(t.Context(), path, c.from, c.to); err != nil {
				t.Fatal(err)
			}
			if got := owner(t, path+"/f"); got != c.want {
				t.Errorf("%s became %s, want %s", c.is, got, c.want)
			}
		})
	}
	dir := t.TempDir()
	testutil.Tree(t, dir, "f=x 5000:5000")
	if err := idtools.ChownTree(t.Context(), dir, same(0, 1000, 10), idtools.Mapping{}); !errors.Is(err,
		errdefs.ErrInvalid) || !strings.Contains(fmt.Sprint(err), `"f"`) {
		t.Errorf("an owner that isn't mapped: %v", err)
	}
}

// A tree of many directories, deeper than a path can say, is done whole; an end of the
// context stops it.
func TestChownTreeDeepAndWide(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	for i := range 50 {
		testutil.Tree(t, dir, fmt.Sprintf("d%d/f=x 1:1", i), fmt.Sprintf("d%d/g=x 2:2", i),
			fmt.Sprintf("h%d=>d%d/f", i, i))
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("n", 200)
	for range 60 {
		if err := unix.Mkdirat(at, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		unix.Close(at)
		if at = next; err != nil {
			t.Fatal(err)
		}
	}
	defer unix.Close(at)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := idtools.ChownTree(ended, dir, idtools.Mapping{}, same(0, 1000, 10)); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
	if err := idtools.ChownTree(t.Context(), dir, idtools.Mapping{}, same(0, 1000, 10)); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		for file, want := range map[string]string{"d%d/f": "1001:1001", "d%d/g": "1002:1002", "h%d": "1001:1001"} {
			if got := owner(t, filepath.Join(dir, fmt.Sprintf(file, i))); got != want {
				t.Errorf(file+" belongs to %s, want %s", i, got, want)
			}
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil || st.Uid != 1000 {
		t.Errorf("the deepest directory: %d, %v", st.Uid, err)
	}
}

// The namespace has the mapping, and no process is left of it.
func TestOpenUserNamespace(t *testing.T) {
	testutil.Root(t)
	ns, err := idtools.OpenUserNamespace(same(0, 100000, 65536))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	mine, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	if its, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", ns.Fd())); err != nil || its == mine ||
		!strings.HasPrefix(its, "user:[") {
		t.Errorf("namespace %s, mine is %s, %v", its, mine, err)
	}
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a child is left: %v", err)
	}
	if _, err := idtools.OpenUserNamespace(idtools.Mapping{UIDs: []idtools.Map{{Size: -1}}}); !errors.Is(err,
		errdefs.ErrInvalid) {
		t.Errorf("a bad mapping: %v", err)
	}
}
