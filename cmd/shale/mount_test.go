package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// An image is shown with the owners that it has in a container with an ID map.
func TestMountWithAnIDMap(t *testing.T) {
	testutil.HostRoot(t)
	t.Setenv("STORAGE_DRIVER", "overlay")
	s := newStore(t)
	file := filepath.Join(s.dir, "a.tar")
	if err := os.WriteFile(file, tarOf(t, map[string]string{"f": "x"}), 0o644); err != nil {
		t.Fatal(err)
	}
	s.must("create-image", "--name", "one", s.id("import-layer", "--file", file))
	at := strings.TrimSpace(s.must("mount", "--read-only", "--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536",
		"one"))
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(at, "f"), &st); err != nil || st.Uid != 100000 || st.Gid != 200000 {
		t.Errorf("f belongs to %d:%d, %v", st.Uid, st.Gid, err)
	}
	s.must("unmount", "one")
	if r := s.try("mount", "--uidmap", "0:nonsense:1", "one"); r.status == 0 ||
		!strings.Contains(r.stderr, "nonsense") {
		t.Errorf("a map that is none: %+v", r)
	}
}
