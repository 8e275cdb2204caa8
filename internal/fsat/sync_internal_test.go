package fsat

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// A directory is not synced when its file system is cut off between the rename and the
// sync, whatever fsync(2) says.
func TestSyncDirOfDeadFileSystem(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			loop := testutil.NewLoop(t, kind, 512)
			before, after := filepath.Join(loop.Dir, "before"), filepath.Join(loop.Dir, "after")
			if err := os.WriteFile(before, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			fd, err := openat.At(unix.AT_FDCWD, loop.Dir, unix.O_RDONLY|unix.O_DIRECTORY)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := syncDir(fd); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(before, after); err != nil {
				t.Fatal(err)
			}
			if err := loop.Cut(); err != nil {
				t.Fatal(err)
			}
			if err := syncDir(fd); !errors.Is(err, unix.EIO) {
				t.Errorf("got %v, want %v", err, unix.EIO)
			}
		})
	}
}
