package dedupe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/dedupe"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// Equal files share their blocks afterwards, whatever they are compared by, and the
// others don't; all keep their content.
func TestEqualFilesShareBlocks(t *testing.T) {
	testutil.Root(t)
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			dir := testutil.LoopFS(t, kind, 320)
			one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
			large, small, other := testutil.Noise("large", 20<<20), testutil.Noise("small", 64<<10),
				testutil.Noise("other", 64<<10)
			for path, data := range map[string][]byte{one + "/large": large, two + "/deep/large": large,
				one + "/small": small, two + "/small": small,
				one + "/again": small, two + "/other": other, one + "/empty": nil, two + "/empty": nil} {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				testutil.WriteFile(t, path, data, 0o600)
			}
			if err := os.Symlink("../two/other", one+"/link"); err != nil {
				t.Fatal(err)
			}
			unix.Sync()
			before := testutil.Snapshot(t, dir)
			for _, by := range []dedupe.By{dedupe.Size, dedupe.CRC, dedupe.SHA256} {
				shared, err := dedupe.Dirs(context.Background(), []string{one, two}, by)
				if want := int64(20<<20 + 2*64<<10); err != nil || shared != want {
					t.Fatalf("by %d: shared %d, want %d: %v", by, shared, want, err)
				}
			}
			testutil.SameTree(t, before, testutil.Snapshot(t, dir))
			if a, b := testutil.FirstBlock(t, one+"/large"), testutil.FirstBlock(t, two+"/deep/large"); a != b {
				t.Errorf("equal files lie in different places, %d and %d", a, b)
			}
			if a, b := testutil.FirstBlock(t, one+"/small"), testutil.FirstBlock(t, two+"/other"); a == b {
				t.Error("different files lie in the same place")
			}
		})
	}
}

func TestFileSystemThatCannot(t *testing.T) {
	testutil.Root(t)
	dir := testutil.LoopFS(t, "ext4", 64)
	for i := range 2 {
		testutil.WriteFile(t, fmt.Sprint(dir, "/", i), bytes.Repeat([]byte("x"), 8192), 0o600)
	}
	if _, err := dedupe.Dirs(context.Background(), []string{dir}, dedupe.CRC); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("on ext4: %v", err)
	}
}
