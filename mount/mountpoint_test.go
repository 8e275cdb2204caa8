package mount_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testutil.Main(m) }

func TestPrivateHome(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	// The directory lies on a shared mount, as everything does on a host with systemd.
	must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, testutil.UnmountBelow(dir)); must(t, mount.Unmount(dir)) })
	must(t, unix.Mount("", dir, "", unix.MS_SHARED, ""))
	home := filepath.Join(dir, "home")
	must(t, os.MkdirAll(filepath.Join(home, "a/merged"), 0o700))

	is := func(path string, mountPoint, private bool) {
		t.Helper()
		if got, err := mount.IsMountPoint(path); got != mountPoint || err != nil {
			t.Errorf("%s is a mount point: %t, %v", path, got, err)
		}
		if got, err := mount.IsPrivate(path); got != private || err != nil {
			t.Errorf("%s is private: %t, %v", path, got, err)
		}
		if mountPoint {
			if got, err := mount.IsPrivateByTable(path); got != private || err != nil {
				t.Errorf("%s is private by the table: %t, %v", path, got, err)
			}
		}
	}
	is(dir, true, false)
	is(home, false, false)
	is(filepath.Join(dir, "missing"), false, false)
	is(filepath.Join(dir, "missing/deeper"), false, false)

	must(t, mount.MakePrivate(home))
	is(home, true, true)
	must(t, mount.MakePrivate(home))
	if n := count(t, home); n != 1 {
		t.Errorf("%d mounts on the home after making it private twice", n)
	}
	must(t, os.Symlink("home", filepath.Join(dir, "link")))
	if got, err := mount.IsMountPoint(filepath.Join(dir, "link")); got || err != nil {
		t.Errorf("a symlink to a mount point is none: %t, %v", got, err)
	}

	merged := filepath.Join(home, "a/merged")
	must(t, mount.Perform(t.Context(), mount.Spec{Type: "tmpfs", Source: "tmpfs", Target: merged,
		Data: []string{"size=1m"}}))
	if below, err := mount.Below(home); err != nil || !slices.Equal(below, []string{merged}) {
		t.Errorf("mounted below: %v, %v", below, err)
	}
	if err := mount.UndoPrivate(home); !errors.Is(err, errdefs.ErrInUse) {
		t.Errorf("undone with a mount beneath: %v", err)
	}
	must(t, mount.Unmount(merged))
	must(t, mount.Unmount(merged))
	must(t, mount.UndoPrivate(home))
	is(home, false, false)
	must(t, mount.UndoPrivate(home))
	must(t, mount.UndoPrivate(filepath.Join(dir, "missing")))
}

// A file system of the home's own is not ours to unmount; containers/storage does.
func TestUndoPrivateSparesAFileSystem(t *testing.T) {
	testutil.Root(t)
	home, other := t.TempDir(), t.TempDir()
	must(t, mount.Perform(t.Context(), mount.Spec{Type: "tmpfs", Source: "tmpfs", Target: home}))
	t.Cleanup(func() { must(t, mount.Unmount(home)) })
	must(t, mount.MakePrivate(home))
	must(t, mount.UndoPrivate(home))
	if is, err := mount.IsMountPoint(home); !is || err != nil {
		t.Errorf("the file system is gone (%v)", err)
	}
	must(t, mount.Perform(t.Context(), mount.Spec{Type: "bind", Source: home, Target: other}))
	t.Cleanup(func() { must(t, mount.Unmount(other)) })
	must(t, mount.UndoPrivate(other))
	if is, err := mount.IsMountPoint(other); !is || err != nil {
		t.Errorf("a bind mount of another directory is gone (%v)", err)
	}
}

func TestBindWithFlags(t *testing.T) {
	testutil.Root(t)
	for way, perform := range ways {
		t.Run(way, func(t *testing.T) {
			from, to := t.TempDir(), t.TempDir()
			// A file system of this namespace: the access time flags of others are locked
			// in a user namespace (mount_namespaces(7)).
			must(t, mount.Perform(t.Context(), mount.Spec{Type: "tmpfs", Source: "tmpfs", Target: from}))
			t.Cleanup(func() { must(t, mount.Unmount(from)) })
			testutil.Tree(t, from, "f=1")
			attr, data, err := mount.ParseOptions([]string{"ro,nodev,noatime"})
			if err != nil || len(data) > 0 {
				t.Fatal(data, err)
			}
			must(t, perform(t.Context(), mount.Spec{Type: "bind", Source: from, Target: to, Attr: attr}))
			t.Cleanup(func() { must(t, mount.Unmount(to)) })
			if err := os.WriteFile(filepath.Join(to, "f"), nil, 0o644); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing through it: %v", err)
			}
			must(t, os.WriteFile(filepath.Join(from, "f"), nil, 0o644))
		})
	}
}

func TestUnmountFollowsNoSymlink(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "m"), 0o700))
	must(t, os.Symlink("m", filepath.Join(dir, "l")))
	must(t, mount.Perform(t.Context(), mount.Spec{Type: "tmpfs", Source: "tmpfs", Target: filepath.Join(dir, "m")}))
	t.Cleanup(func() { must(t, mount.Unmount(filepath.Join(dir, "m"))) })
	must(t, mount.Unmount(filepath.Join(dir, "l")))
	if is, _ := mount.IsMountPoint(filepath.Join(dir, "m")); !is {
		t.Error("unmounted through a symlink")
	}
	err := mount.Perform(t.Context(), mount.Spec{Type: "tmpfs", Source: "tmpfs", Target: filepath.Join(dir, "l")})
	if !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		t.Errorf("mounted through a symlink: %v", err)
	}
}

func count(t *testing.T, path string) int {
	t.Helper()
	all, err := testutil.MountsBelow(filepath.Dir(path))
	must(t, err)
	n := 0
	for _, m := range all {
		if m == path {
			n++
		}
	}
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A mount whose line in the table is longer than any parser's buffer doesn't hide itself
// or the others.
func TestBelowWithVeryLongLines(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	t.Cleanup(func() { must(t, testutil.UnmountBelow(dir)) })
	spec := mount.Spec{Type: "overlay", Source: "overlay", Target: filepath.Join(dir, "long")}
	for n := range 400 {
		// a space takes four bytes in the table
		lower := filepath.Join(dir, fmt.Sprintf("%03d", n)+strings.Repeat(" ", 200))
		must(t, os.Mkdir(lower, 0o700))
		spec.Lower = append(spec.Lower, lower)
	}
	other := filepath.Join(dir, "other")
	must(t, errors.Join(os.Mkdir(spec.Target, 0o700), os.Mkdir(other, 0o700)))
	must(t, mount.Perform(t.Context(), spec))
	must(t, mount.Perform(t.Context(), mount.Spec{Type: "tmpfs", Source: "tmpfs", Target: other,
		Data: []string{"size=1m"}}))
	table, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if len(table) < 1<<17 {
		t.Fatalf("the mount table has only %d bytes", len(table))
	}
	if below, err := mount.Below(dir); err != nil || !slices.Equal(below, []string{other, spec.Target}) {
		t.Errorf("mounts: %q (%v)", below, err)
	}
}
