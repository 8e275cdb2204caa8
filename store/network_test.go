package store_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"golang.org/x/sys/unix"
)

// On a network file system a user can't give files to others, not in a namespace either.
// With a mount program owners and modes are in an attribute there without being asked
// for; the mount shows them, and a diff has them. Without one the store isn't made.
func TestNetworkFileSystemInVM(t *testing.T) {
	const variable = "SHALE_TEST_NFS"
	if os.Getenv(variable) == "" {
		share := testutil.NFS(t, testutil.MountVMDisk(t, "ext4", "").Dir)
		if err := os.Chmod(filepath.Dir(share), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv(variable, share)
	}
	testutil.FuseForAll(t)
	if !testutil.InUserNS(t) {
		return
	}
	dir, err := os.MkdirTemp(os.Getenv(variable), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	cfg := config.Config{GraphRoot: filepath.Join(dir, "plain"), RunRoot: t.TempDir(), Driver: "overlay"}
	t.Run("kernel", func(t *testing.T) {
		t.Setenv("PATH", "") // has the mount program
		s, err := store.Open(t.Context(), cfg)
		if err == nil {
			_, err = s.CreateLayer(t.Context(), layers.CreateOptions{Writable: true})
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "network file system") {
			t.Errorf("%v", err)
		}
	})

	cfg.GraphRoot, cfg.RunRoot = filepath.Join(dir, "root"), t.TempDir()
	cfg.Overlay.MountProgram = testutil.Tool(t, "fuse-overlayfs", "fuse-overlayfs")
	s := open(t, cfg)
	var archived bytes.Buffer
	w := tar.NewWriter(&archived)
	if err := w.WriteHeader(&tar.Header{Name: "su", Mode: 0o4711, Uid: 33, Gid: 34, Size: 4,
		Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "mine"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	importLayer(t, s, id("base"), "", archived.Bytes())
	onDisk := filepath.Join(cfg.GraphRoot, "overlay", id("base"), "diff/su")
	value := make([]byte, 64)
	n, err := unix.Lgetxattr(onDisk, "user.containers.override_stat", value)
	if err != nil || string(value[:n]) != "33:34:4711:file" {
		t.Errorf("the true owner and mode on disk are %q (%v)", value[:max(n, 0)], err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(onDisk, &st); err != nil || st.Mode&0o7777 != 0o700 || st.Uid != 0 {
		t.Errorf("on disk it is %o of %d (%v)", st.Mode, st.Uid, err)
	}

	work, err := s.CreateLayer(t.Context(), layers.CreateOptions{Parent: id("base"), Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.Mount(t.Context(), work.ID, store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Lstat(filepath.Join(path, "su"), &st); err != nil || st.Mode&0o7777 != 0o4711 || st.Uid != 33 ||
		st.Gid != 34 {
		t.Errorf("mounted it is %o of %d:%d (%v)", st.Mode, st.Uid, st.Gid, err)
	}
	if data, err := os.ReadFile(filepath.Join(path, "su")); string(data) != "mine" {
		t.Errorf("read: %q, %v", data, err)
	}
	testutil.Tree(t, path, "mine=x")
	if err := os.Chown(filepath.Join(path, "mine"), 5, 6); err != nil {
		t.Error(err)
	}
	if _, err := s.Unmount(t.Context(), work.ID, false); err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(bytes.NewReader(export(t, s, work.ID)))
	for {
		h, err := r.Next()
		if err == io.EOF {
			t.Fatal("the diff lacks the file")
		}
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Clean(h.Name) == "mine" {
			if h.Uid != 5 || h.Gid != 6 {
				t.Errorf("in the diff it belongs to %d:%d", h.Uid, h.Gid)
			}
			break
		}
	}
}
