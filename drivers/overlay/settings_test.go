package overlay_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// With a split image store, image layers and their short names lie there and containers'
// in the graph root.
func TestImageStore(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	at := drivers.Place{Root: dir + "/root", RunRoot: dir + "/run", ImageStore: dir + "/images"}
	d := open(t, at).(*overlay.Driver)
	must(t, create(t.Context(), d, "image", ""))
	s, err := d.Stage(t.Context(), "image", drivers.StageOptions{Writable: true})
	must(t, err)
	must(t, s.Commit(t.Context(), "container"))
	must(t, s.Discard())
	for path, want := range map[string]bool{"images/overlay/image/diff": true, "root/overlay/container/diff": true,
		"root/overlay/image": false, "images/overlay/container": false} {
		if _, err := os.Stat(filepath.Join(dir, path)); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	target := perform(t, d, "container", drivers.MountOptions{})
	if _, err := os.Stat(filepath.Join(target, "new")); err != nil {
		t.Error(err)
	}
	must(t, mount.Unmount(target))
	if err := os.Remove(filepath.Join(dir, "root/overlay/container/lower-layers")); err != nil {
		t.Fatal(err)
	}
	if info, err := d.Stat(t.Context(), "container"); err != nil ||
		!slices.Equal(info.Lower, []string{dir + "/images/overlay/image/diff"}) {
		t.Errorf("parent by short name: %v (%v)", info.Lower, err)
	}
	ids, err := d.List(t.Context())
	must(t, err)
	if len(ids) != 2 {
		t.Errorf("layers %v", ids)
	}
	for _, id := range ids {
		trash, err := d.Delete(t.Context(), id)
		must(t, err)
		must(t, trash.Empty(t.Context()))
	}
	for _, links := range []string{"root/overlay/l", "images/overlay/l"} {
		if left, err := os.ReadDir(filepath.Join(dir, links)); err != nil || len(left) > 0 {
			t.Errorf("%s holds %v (%v)", links, left, err)
		}
	}
}

// Settings that this driver doesn't carry out are refused by name, where a layer is made
// that would need them; what is there can be used.
func TestRefusedSettings(t *testing.T) {
	mask := fs.FileMode(0o700)
	root := t.TempDir()
	testutil.Root(t)
	composed, err := overlay.Open(t.Context(), overlay.Options{Place: drivers.Place{Root: root}, UseComposefs: true})
	must(t, err)
	if ids, err := composed.List(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("layers %v (%v)", ids, err)
	}
	if _, err := composed.Stage(t.Context(), "", drivers.StageOptions{}); !errors.Is(err, errdefs.ErrUnsupported) ||
		!strings.Contains(err.Error(), "use_composefs") {
		t.Errorf("use_composefs: %v", err)
	}
	d, err := overlay.Open(t.Context(), overlay.Options{Place: drivers.Place{Root: root}, ForceMask: &mask})
	must(t, err)
	if _, err := d.Stage(t.Context(), "", drivers.StageOptions{Writable: true}); !errors.Is(err,
		errdefs.ErrUnsupported) || !strings.Contains(err.Error(), "force_mask") {
		t.Errorf("force_mask on a writable layer: %v", err)
	}
	if _, err := d.Mounts(t.Context(), "nobody", drivers.MountOptions{}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
}

// force_mask puts the root directory's true owner and mode into an xattr, from where
// children inherit them.
func TestForceMask(t *testing.T) {
	testutil.Root(t)
	mask := fs.FileMode(0o700)
	root := t.TempDir()
	d, err := overlay.Open(t.Context(), overlay.Options{Place: drivers.Place{Root: root}, ForceMask: &mask})
	must(t, err)
	s, err := d.Stage(t.Context(), "", drivers.StageOptions{})
	must(t, err)
	must(t, unix.Setxattr(s.Content(), "user.containers.override_stat", []byte("5:6:0711:dir"), unix.XATTR_REPLACE))
	must(t, s.Commit(t.Context(), "base"))
	must(t, s.Discard())
	s, err = d.Stage(t.Context(), "base", drivers.StageOptions{})
	must(t, err)
	defer s.Discard()
	buf := make([]byte, 64)
	n, err := unix.Getxattr(s.Content(), "user.containers.override_stat", buf)
	if err != nil || string(buf[:n]) != "5:6:0711:dir" {
		t.Errorf("the child's true root is %q (%v)", buf[:n], err)
	}
	if st, err := os.Stat(s.Content()); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the child's root on disk: %v (%v)", st.Mode(), err)
	}
}

func openOptions(t *testing.T, root string, skipMountHome bool) *overlay.Driver {
	t.Helper()
	d, err := overlay.Open(t.Context(), overlay.Options{Place: drivers.Place{Root: root}, SkipMountHome: skipMountHome})
	must(t, err)
	return d
}
