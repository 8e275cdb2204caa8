package overlay_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/drivertest"
	"github.com/shalestore/shale/drivers/overlay"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// fuseOverlayfs is the mount program that Debian has, or the test is skipped.
func fuseOverlayfs(t testing.TB) string {
	t.Helper()
	testutil.Root(t)
	program := testutil.Tool(t, "fuse-overlayfs", "fuse-overlayfs")
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/fuse: %v", err)
	}
	f.Close()
	return program
}

// The whole contract holds with a mount program.
func TestContractWithMountProgram(t *testing.T) {
	program := fuseOverlayfs(t)
	drivertest.Run(t, drivertest.Suite{Depth: 20, Open: func(t testing.TB, at drivers.Place) drivers.Driver {
		d, err := overlay.Open(t.Context(), overlay.Options{Place: at, MountProgram: program})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}})
}

func openProgram(t *testing.T, opts overlay.Options) *overlay.Driver {
	t.Helper()
	opts.MountProgram = fuseOverlayfs(t)
	opts.Root = t.TempDir()
	t.Cleanup(func() { must(t, testutil.UnmountBelow(opts.Root)) })
	d, err := overlay.Open(t.Context(), opts)
	must(t, err)
	return d
}

// A mount program translates owners, of what is written as well: on disk are the
// container's.
func TestMountProgramMapsOwners(t *testing.T) {
	d := openProgram(t, overlay.Options{})
	s, err := d.Stage(t.Context(), "", drivers.StageOptions{})
	must(t, err)
	testutil.Tree(t, s.Content(), "root=0", "five=5 5:6")
	must(t, errors.Join(s.Commit(t.Context(), "base"), s.Discard()))
	m := idtools.Mapping{UIDs: []idtools.Map{{HostID: 10000, Size: 3}, {ContainerID: 3, HostID: 10003, Size: 97}},
		GIDs: []idtools.Map{{HostID: 20000, Size: 100}}}
	if ok, err := d.SupportsShifting(t.Context(), m); !ok || err != nil {
		t.Fatalf("supports shifting: %t, %v", ok, err)
	}
	holes := idtools.Mapping{UIDs: []idtools.Map{{HostID: 10000, Size: 3}, {ContainerID: 3, HostID: 20003, Size: 97}},
		GIDs: m.GIDs}
	if ok, err := d.SupportsShifting(t.Context(), holes); ok || err != nil {
		t.Fatalf("supports shifting by two ranges: %t, %v", ok, err)
	}
	s, err = d.Stage(t.Context(), "base", drivers.StageOptions{Writable: true, Shift: m})
	must(t, err)
	must(t, errors.Join(s.Commit(t.Context(), "container"), s.Discard()))
	target := perform(t, d, "container", drivers.MountOptions{IDMap: m})
	owned := func(path string, uid, gid uint32) {
		t.Helper()
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		if st.Uid != uid || st.Gid != gid {
			t.Errorf("%s belongs to %d:%d, want %d:%d", path, st.Uid, st.Gid, uid, gid)
		}
	}
	owned(target, 10000, 20000)
	owned(target+"/root", 10000, 20000)
	owned(target+"/five", 10005, 20006)
	must(t, os.WriteFile(target+"/new", nil, 0o600))
	must(t, os.Chown(target+"/new", 10007, 20008))
	owned(target+"/new", 10007, 20008)
	info, err := d.Stat(t.Context(), "container")
	must(t, err)
	owned(info.Content+"/new", 7, 8)
}

// With force_mask the true owners and modes are in an xattr, which the mount program
// shows, and writes in its own form.
func TestForceMaskWithMountProgram(t *testing.T) {
	if testutil.SingleID() {
		t.Skip("needs several IDs, which this user namespace lacks")
	}
	mask := fs.FileMode(0o700)
	d := openProgram(t, overlay.Options{ForceMask: &mask})
	s, err := d.Stage(t.Context(), "", drivers.StageOptions{})
	must(t, err)
	testutil.Tree(t, s.Content(), "f=x 0700 user.containers.override_stat=5:6:4711:file")
	must(t, errors.Join(s.Commit(t.Context(), "base"), s.Discard()))
	s, err = d.Stage(t.Context(), "base", drivers.StageOptions{Writable: true})
	must(t, err)
	must(t, errors.Join(s.Commit(t.Context(), "container"), s.Discard()))
	target := perform(t, d, "container", drivers.MountOptions{})
	var st unix.Stat_t
	must(t, unix.Lstat(target+"/f", &st))
	if st.Uid != 5 || st.Gid != 6 || st.Mode&0o7777 != 0o4711 {
		t.Errorf("f shows %d:%d and %o", st.Uid, st.Gid, st.Mode&0o7777)
	}
	must(t, os.WriteFile(target+"/new", []byte("x"), 0o644))
	must(t, os.Chown(target+"/new", 7, 8))
	must(t, unix.Lstat(target+"/new", &st))
	if st.Uid != 7 || st.Gid != 8 {
		t.Errorf("the new file shows %d:%d", st.Uid, st.Gid)
	}
	info, err := d.Stat(t.Context(), "container")
	must(t, err)
	must(t, unix.Lstat(info.Content+"/new", &st))
	if st.Uid != 0 {
		t.Errorf("on disk the new file belongs to %d", st.Uid)
	}
}

// Layers made for a mount program aren't mounted by the kernel, which would show its
// whiteouts as files.
func TestMountProgramIsRemembered(t *testing.T) {
	root := t.TempDir()
	program := fuseOverlayfs(t)
	_, err := overlay.Open(t.Context(), overlay.Options{Place: drivers.Place{Root: root}, MountProgram: program})
	must(t, err)
	if flag, err := os.ReadFile(root + "/overlay/.has-mount-program"); string(flag) != "true" {
		t.Errorf("the flag says %q (%v)", flag, err)
	}
	if _, err := overlay.Open(t.Context(), overlay.Options{Place: drivers.Place{Root: root}}); !errors.Is(err,
		errdefs.ErrUnsupported) || !strings.Contains(err.Error(), "mount_program") {
		t.Errorf("opened without: %v", err)
	}
	for _, wrong := range []string{"fuse-overlayfs", "/nonexistent/program", "/etc/passwd", "/usr"} {
		if _, err := overlay.Open(t.Context(), overlay.Options{Place: drivers.Place{Root: t.TempDir()},
			MountProgram: wrong}); !errors.Is(err, errdefs.ErrInvalid) ||
			!strings.Contains(err.Error(), "mount_program") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// What a mount program says when it fails reaches the caller, and so does it when it only
// claims to have mounted.
func TestMountProgramFails(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	for name, c := range map[string]struct{ script, want string }{
		"complains": {"#!/bin/sh\necho no luck today >&2\nexit 3\n", "no luck today"},
		"lies":      {"#!/bin/sh\nexit 0\n", "mounted nothing"},
	} {
		program := filepath.Join(dir, name)
		testutil.WriteFile(t, program, []byte(c.script), 0o755)
		d, err := overlay.Open(t.Context(), overlay.Options{
			Place: drivers.Place{Root: filepath.Join(dir, name+".root")}, MountProgram: program})
		must(t, err)
		must(t, create(t.Context(), d, "base", ""))
		specs, err := d.Mounts(t.Context(), "base", drivers.MountOptions{})
		must(t, err)
		if err := mount.Perform(t.Context(), specs[0]); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// In a user namespace a mount program works as it does for root, where the user may open
// /dev/fuse.
func TestMountProgramInUserNamespace(t *testing.T) {
	testutil.FuseForAll(t)
	if !testutil.InUserNS(t) {
		return
	}
	d := openProgram(t, overlay.Options{})
	must(t, create(t.Context(), d, "base", ""))
	must(t, create(t.Context(), d, "child", "base"))
	target := perform(t, d, "child", drivers.MountOptions{})
	must(t, os.WriteFile(target+"/written", []byte("x"), 0o600))
	must(t, os.Remove(target+"/new"))
	if native, err := d.NativeDiff(t.Context()); native || err != nil {
		t.Errorf("native diff: %t, %v", native, err)
	}
}

// Where overlayfs doesn't work, as on top of itself, the host's mount program is taken;
// and so it is for a store that has seen one.
func TestMountProgramIsFound(t *testing.T) {
	program := fuseOverlayfs(t)
	_, kernels := freshStore(t)
	root := perform(t, kernels, "child", drivers.MountOptions{})
	find := func() string { return program }
	for range 2 {
		d, err := overlay.Open(t.Context(), overlay.Options{Place: place(root), FindProgram: find})
		must(t, err)
		if d.MountProgram() != program {
			t.Fatalf("mounts by %q", d.MountProgram())
		}
	}
	d, err := overlay.Open(t.Context(), overlay.Options{Place: place(root), FindProgram: find})
	must(t, err)
	must(t, create(t.Context(), d, "base", ""))
	must(t, create(t.Context(), d, "upper", "base"))
	target := perform(t, d, "upper", drivers.MountOptions{})
	must(t, os.WriteFile(target+"/written", []byte("x"), 0o600))
	must(t, os.Remove(target+"/new"))

	d, err = overlay.Open(t.Context(), overlay.Options{Place: place(t.TempDir()), FindProgram: find})
	must(t, err)
	if d.MountProgram() != "" {
		t.Error("a mount program where the kernel can mount")
	}
	must(t, d.Close())
}
