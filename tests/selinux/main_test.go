// Package selinux tests the labels of containers and of what is mounted, where SELinux is
// on: in the virtual machine of tests/vm.
package selinux

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// What lxc_contexts of Debian's policy gives containers, but for the level.
const (
	processType = "system_u:system_r:container_t:"
	fileType    = "system_u:object_r:container_file_t:"
)

// look is store.View for a function with a result.
func look[T any](t *testing.T, s *store.Store, find func(*store.ReadTx) (T, error)) (found T, err error) {
	t.Helper()
	err = s.View(t.Context(), func(tx *store.ReadTx) error {
		found, err = find(tx)
		return err
	})
	return found, err
}

// open opens a new store.
func open(t *testing.T, driver string) (*store.Store, config.Config) {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	cfg := config.Config{GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run"), Driver: driver}
	s, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, cfg
}

func create(t *testing.T, s *store.Store, opts store.ContainerOptions) containers.Container {
	t.Helper()
	c, err := s.CreateContainer(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mounted(t *testing.T, s *store.Store, ref string, opts store.MountOptions) string {
	t.Helper()
	path, err := s.Mount(t.Context(), ref, opts)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func unmount(t *testing.T, s *store.Store, ref string) {
	t.Helper()
	if _, err := s.Unmount(t.Context(), ref, false); err != nil {
		t.Fatal(err)
	}
}

// labelOf is the label of a file, as whoever looks at it through its file system sees it.
func labelOf(t *testing.T, path string) string {
	t.Helper()
	value := make([]byte, 256)
	n, err := unix.Lgetxattr(path, "security.selinux", value)
	if err != nil {
		t.Fatalf("label of %s: %v", path, err)
	}
	return string(bytes.TrimRight(value[:n], "\x00"))
}

// level is the last part of a label: its sensitivity and categories.
func level(label string) string {
	parts := strings.SplitN(label, ":", 4)
	return parts[len(parts)-1]
}
