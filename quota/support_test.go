package quota

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// The test binary plays other processes that choose IDs in the same home.
func TestMain(m *testing.M) {
	if prefix := os.Getenv("QUOTA_TEST_ASSIGN"); prefix != "" {
		if err := assignMany(os.Args[1], prefix); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testutil.Main(m)
}

func TestWhatIsMissing(t *testing.T) {
	for _, c := range []struct{ kind, want string }{
		{"xfs", "mount this XFS with the option prjquota"},
		{"ext4", "mkfs.ext4 -O quota,project"},
		{"btrfs", "btrfs has none"},
		{"tmpfs", "this file system has none"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			if c.kind != "tmpfs" {
				unsupported(t, testutil.LoopFS(t, c.kind, 400), c.want)
				return
			}
			testutil.Root(t)
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
			unsupported(t, dir, c.want)
		})
	}
}

// unsupported asks for quotas where there are none.
func unsupported(t *testing.T, dir, want string) {
	t.Helper()
	_, err := Open(dir)
	if !errors.Is(err, errdefs.ErrUnsupported) || !strings.Contains(err.Error(), want) {
		t.Errorf("Open: %v, want %q", err, want)
	}
	if left, err := os.ReadDir(dir); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool {
		return e.Name() != "lost+found"
	}) {
		t.Errorf("Open left something: %v (%v)", left, err)
	}
}
