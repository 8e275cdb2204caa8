package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

func limits(bytes, inodes uint64) drivers.Limits {
	return drivers.Limits{Bytes: &bytes, Inodes: &inodes}
}

// Where limits can't hold, they are refused before anything is made.
func TestLimitsWithoutQuotas(t *testing.T) {
	ctx := context.Background()
	cfg := roots(t)
	cfg.Overlay.Size = 1 << 30
	s := open(t, cfg)
	if _, err := allLayers(s); err != nil {
		t.Errorf("a list under the setting size: %v", err)
	}
	if _, err := s.CreateContainer(ctx, store.ContainerOptions{}); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("a container under the setting size: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	cfg.Overlay.Size = 0
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			cfg := config.Config{GraphRoot: cfg.GraphRoot + driver, RunRoot: cfg.RunRoot + driver, Driver: driver}
			s := open(t, cfg)
			if _, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id("c"), Limits: limits(0, 0)}); err != nil {
				t.Fatal(err) // no limit is no wish
			}
			before := testutil.Snapshot(t, cfg.GraphRoot)
			_, err := s.CreateContainer(ctx, store.ContainerOptions{Limits: limits(0, 1000)})
			if !errors.Is(err, errdefs.ErrUnsupported) {
				t.Errorf("a container with a limit: %v", err)
			}
			if driver == "overlay" && !strings.Contains(err.Error(), "XFS and ext4 do") {
				t.Errorf("%v doesn't say what would do", err)
			}
			testutil.SameTree(t, before, testutil.Snapshot(t, cfg.GraphRoot))
		})
	}
}

// The life of a container with limits: those of storage.conf, unless it has its own.
func TestQuotaOfContainers(t *testing.T) {
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			ctx := context.Background()
			disk := testutil.QuotaFS(t, kind)
			cfg := config.Config{GraphRoot: filepath.Join(disk.Dir, "root"), RunRoot: t.TempDir(), Driver: "overlay"}
			cfg.Overlay.Inodes = 60
			s := open(t, cfg)
			importLayer(t, s, id("base"), "", layerTar(t, "etc/", "etc/passwd"))
			if _, err := s.CreateImage(ctx, store.ImageOptions{Names: []string{"example.com/base:1"},
				TopLayer: id("base")}); err != nil {
				t.Fatal(err)
			}
			files := func(c store.ContainerOptions) int {
				t.Helper()
				c.Image = "example.com/base:1"
				made, err := s.CreateContainer(ctx, c)
				if err != nil {
					t.Fatal(err)
				}
				// A diff that is applied before the first mount counts like what the
				// container writes.
				if _, err := s.ApplyDiff(ctx, made.LayerID, bytes.NewReader(layerTar(t, "new/", "new/file")),
					nil); err != nil {
					t.Fatal(err)
				}
				target, err := s.Mount(ctx, made.ID, store.MountOptions{})
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if _, err := s.Unmount(ctx, made.ID, false); err != nil {
						t.Error(err)
					}
				}()
				for n := range 200 {
					err := os.WriteFile(filepath.Join(target, "new", strings.Repeat("f", n+1)), nil, 0o600)
					if errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.ENOSPC) {
						return n
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				return 200
			}
			for name, c := range map[string]struct {
				limits   drivers.Limits
				min, max int
			}{
				"storage.conf's": {drivers.Limits{}, 40, 55},
				"its own":        {limits(0, 120), 100, 115},
				"none":           {limits(0, 0), 200, 200},
			} {
				if got := files(store.ContainerOptions{Names: []string{name}, Limits: c.limits}); got < c.min ||
					got > c.max {
					t.Errorf("%s: %d files could be made, want %d to %d", name, got, c.min, c.max)
				}
			}
			all, err := allContainers(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				if err := s.DeleteContainer(ctx, c.ID, store.DeleteOptions{Force: true}); err != nil {
					t.Error(err)
				}
			}
			noGarbage(t, s)
		})
	}
}
