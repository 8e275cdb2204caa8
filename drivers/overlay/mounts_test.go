package overlay_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

func TestMountSpec(t *testing.T) {
	testutil.Root(t)
	root, d := freshStore(t)
	dir := func(s string) string { return filepath.Join(root, "overlay", s) }
	for name, c := range map[string]struct {
		id   string
		opts drivers.MountOptions
		want mount.Spec
	}{
		"base": {"base", drivers.MountOptions{}, mount.Spec{Lower: []string{dir("base/empty")},
			Upper: dir("base/diff"), Work: dir("base/work")}},
		"child": {"child", drivers.MountOptions{}, mount.Spec{Lower: []string{dir("base/diff")},
			Upper: dir("child/diff"), Work: dir("child/work")}},
		"base, read-only": {"base", drivers.MountOptions{ReadOnly: true},
			mount.Spec{Lower: []string{dir("base/diff"), dir("base/empty")}, Attr: unix.MOUNT_ATTR_RDONLY}},
		"child, ro": {"child", drivers.MountOptions{Options: []string{"ro", "nodev"}, Volatile: true},
			mount.Spec{Lower: []string{dir("child/diff"), dir("base/diff")}, Attr: unix.MOUNT_ATTR_RDONLY |
				unix.MOUNT_ATTR_NODEV}},
		"volatile, and a read-only mount of one": {"child", drivers.MountOptions{Options: []string{"volatile"},
			ReadOnly: true},
			mount.Spec{Lower: []string{dir("child/diff"), dir("base/diff")}, Attr: unix.MOUNT_ATTR_RDONLY}},
		"label": {"child", drivers.MountOptions{Label: "system_u:object_r:container_file_t:s0:c1,c2"},
			mount.Spec{Lower: []string{dir("base/diff")}, Upper: dir("child/diff"), Work: dir("child/work"),
				Data: []string{"context=system_u:object_r:container_file_t:s0:c1,c2"}}},
	} {
		t.Run(name, func(t *testing.T) {
			specs, err := d.Mounts(t.Context(), c.id, c.opts)
			must(t, err)
			c.want.Type, c.want.Source, c.want.Target = "overlay", "overlay", dir(c.id+"/merged")
			if d.UserXattr() {
				c.want.Data = append([]string{"userxattr"}, c.want.Data...)
			}
			if got := fmt.Sprintf("%+v", specs); got != fmt.Sprintf("%+v", []mount.Spec{c.want}) {
				t.Errorf("got  %s\nwant %+v", got, c.want)
			}
		})
	}
	for name, opts := range map[string]drivers.MountOptions{
		"another upper": {Options: []string{"upperdir=/etc"}},
		"a bind mount":  {Options: []string{"bind"}},
		"a bad label":   {Label: `x",upperdir="/etc`},
	} {
		if _, err := d.Mounts(t.Context(), "child", opts); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := idtools.Mapping{UIDs: []idtools.Map{{HostID: 1000, Size: 10}}}
	without, err := overlay.Open(t.Context(), overlay.Options{Place: drivers.Place{Root: root}, DisableIDMap: true})
	must(t, err)
	if _, err := without.Mounts(t.Context(), "child", drivers.MountOptions{IDMap: m}); !errors.Is(err,
		errdefs.ErrUnsupported) {
		t.Errorf("an ID map: %v", err)
	}
}

// openWith opens a driver with mount options on a root of its own.
func openWith(t *testing.T, root string, options ...string) *overlay.Driver {
	t.Helper()
	d, err := overlay.Open(t.Context(), overlay.Options{Place: place(root), MountOptions: options})
	must(t, err)
	return d
}

// hasOption reports whether a layer's mount would carry an option.
func hasOption(t *testing.T, d *overlay.Driver, opts drivers.MountOptions, option string) bool {
	t.Helper()
	specs, err := d.Mounts(t.Context(), "base", opts)
	must(t, err)
	return slices.Contains(specs[0].Data, option)
}

// metacopy=on of storage.conf stays whatever else a container wants, since metacopies
// made earlier must be followed.
func TestMetacopyStays(t *testing.T) {
	testutil.Root(t)
	if !testutil.OnHost() {
		t.Skip("needs the initial user namespace: metacopy excludes userxattr")
	}
	d := openWith(t, t.TempDir(), "nodev", "metacopy=on")
	must(t, create(t.Context(), d, "base", ""))
	for _, opts := range []drivers.MountOptions{{}, {Options: []string{"nosuid"}}, {Options: []string{"metacopy=on"}}} {
		specs, err := d.Mounts(t.Context(), "base", opts)
		must(t, err)
		if n := len(specs[0].Data); n != 1 || specs[0].Data[0] != "metacopy=on" {
			t.Errorf("options %q give %q", opts.Options, specs[0].Data)
		}
		if wantNodev := len(opts.Options) == 0; (specs[0].Attr&unix.MOUNT_ATTR_NODEV != 0) != wantNodev {
			t.Errorf("options %q give flags %#x", opts.Options, specs[0].Attr)
		}
	}
	if native, err := d.NativeDiff(t.Context()); native || err != nil {
		t.Errorf("native diff with metacopies: %t, %v", native, err)
	}
}

// A kernel, or a user namespace, without metacopy gets mounts without it.
func TestMetacopyIsDroppedWhereItCannotBe(t *testing.T) {
	if !testutil.InUserNS(t) {
		return
	}
	d := openWith(t, t.TempDir(), "metacopy=on")
	must(t, create(t.Context(), d, "base", ""))
	if hasOption(t, d, drivers.MountOptions{}, "metacopy=on") {
		t.Error("metacopy=on where the kernel refuses it")
	}
	if !hasOption(t, d, drivers.MountOptions{}, "userxattr") {
		t.Error("no userxattr in a user namespace")
	}
	perform(t, d, "base", drivers.MountOptions{})
	if native, err := d.NativeDiff(t.Context()); !native || err != nil {
		t.Errorf("native diff: %t, %v", native, err)
	}
}

func TestRedirectsForbidNativeDiff(t *testing.T) {
	testutil.Root(t)
	if !testutil.OnHost() {
		t.Skip("needs the initial user namespace: redirect_dir excludes userxattr")
	}
	root := t.TempDir()
	if native, err := openWith(t, root, "redirect_dir=on").NativeDiff(t.Context()); native || err != nil {
		t.Errorf("native diff with redirects: %t, %v", native, err)
	}
	why, err := os.ReadFile(root + "/run/overlay/native-diff(redirect_dir=on)-false")
	if err != nil || !strings.Contains(string(why), "redirect") {
		t.Errorf("the reason on record is %q (%v)", why, err)
	}
	if native, err := openWith(t, root, "redirect_dir=off").NativeDiff(t.Context()); !native || err != nil {
		t.Errorf("native diff without redirects: %t, %v", native, err)
	}
}

// What the driver tells of itself are containers/storage's lines, in its order.
func TestStatusIsThePeers(t *testing.T) {
	testutil.Root(t)
	for _, mountopt := range []string{"", "metacopy=on", "redirect_dir=on", "nodev,metacopy=on,redirect_dir=on"} {
		if mountopt != "" && !testutil.OnHost() {
			continue // redirect_dir and metacopy exclude userxattr, and we say so where containers/storage says nothing
		}
		ours, theirs := t.TempDir(), t.TempDir()
		t.Cleanup(func() { must(t, testutil.UnmountBelow(theirs)) })
		options := overlay.Options{Place: place(ours)}
		args, listed := []string{"--graph", theirs + "/root", "--run", theirs + "/run", "--storage-driver", "overlay"},
			""
		if mountopt != "" {
			options.MountOptions, listed = strings.Split(mountopt, ","), "overlay.mountopt="+mountopt
			args = append(args, "--storage-opt", listed)
		}
		d, err := overlay.Open(t.Context(), options)
		must(t, err)
		lines := fmt.Sprintf("Driver Name: %s\nDriver Options: [%s]", d.Name(), listed)
		for _, p := range d.Status(t.Context()) {
			lines += "\n" + p.Name + ": " + p.Value
		}
		out, err := exec.Command(testutil.Peer(t), append(args, "status")...).CombinedOutput() // it says so on stderr
		if want := strings.TrimSpace(string(out)); err != nil || !strings.HasSuffix(want, lines) {
			t.Errorf("with %q:\n%s\ncontainers-storage (%v):\n%s", mountopt, lines, err, want)
		}
	}
}

// What was found out once is found in the run root, by us and by containers/storage,
// under the same names.
func TestFactsAreShared(t *testing.T) {
	testutil.Root(t)
	ours, theirs := t.TempDir(), t.TempDir()
	t.Cleanup(func() { must(t, errors.Join(testutil.UnmountBelow(ours), testutil.UnmountBelow(theirs))) })
	d := openWith(t, ours)
	before := fmt.Sprint(d.Status(t.Context()))
	peer(t, theirs, "status")
	files, err := os.ReadDir(ours + "/run/overlay")
	must(t, err)
	for _, f := range files {
		if _, err := os.Stat(filepath.Join(theirs, "run/overlay", f.Name())); err != nil {
			t.Errorf("a fact that containers/storage wouldn't find: %v", err)
		}
	}
	if len(files) != 5 {
		t.Errorf("facts %v", files)
	}
	peer(t, ours, "status")
	if after := fmt.Sprint(openWith(t, ours).Status(t.Context())); after != before {
		t.Errorf("status %s, before %s", after, before)
	}

	must(t, os.Rename(ours+"/run/overlay/volatile-true", ours+"/run/overlay/volatile-false"))
	d = openWith(t, ours)
	must(t, create(t.Context(), d, "base", ""))
	if hasOption(t, d, drivers.MountOptions{Volatile: true}, "volatile") {
		t.Error("the recorded fact was not believed")
	}
}

func TestVolatileMountAfterACrash(t *testing.T) {
	testutil.Root(t)
	_, d := freshStore(t)
	opts := drivers.MountOptions{Volatile: true}
	target := perform(t, d, "child", opts)
	testutil.Tree(t, target, "f=1")
	must(t, mount.Unmount(target)) // which leaves the mark, as a crash does
	info, err := d.Stat(t.Context(), "child")
	must(t, err)
	if _, err := os.Stat(filepath.Join(info.Work, "work/incompat/volatile")); err != nil {
		t.Fatalf("the kernel left no mark: %v", err)
	}
	perform(t, d, "child", drivers.MountOptions{})
}

func TestMergedIsMadeAnew(t *testing.T) {
	testutil.Root(t)
	root, d := freshStore(t)
	merged := filepath.Join(root, "overlay/child/merged")
	must(t, os.Remove(merged))
	target := perform(t, d, "child", drivers.MountOptions{})
	if err := d.Unmounted(t.Context(), "child"); !errors.Is(err, errdefs.ErrBusy) {
		t.Errorf("a mounted layer's mount point: %v", err)
	}
	must(t, mount.Unmount(target))
	if st, err := os.Stat(merged); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("merged is %v (%v)", st, err)
	}
	must(t, os.Mkdir(merged+".1", 0o755)) // left by a crash
	must(t, d.Unmounted(t.Context(), "child"))
	if _, err := os.Stat(merged + ".1"); err == nil {
		t.Error("merged.1 is left")
	}
	if err := d.Unmounted(t.Context(), "nobody"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
}

// A mount namespace made while a layer was mounted has the mount too. Renewing the mount
// point frees the layer there.
func TestUnmountedReachesOtherNamespaces(t *testing.T) {
	testutil.Root(t)
	_, d := freshStore(t)
	target := perform(t, d, "child", drivers.MountOptions{})
	other := exec.Command("cat")
	other.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	keep, err := other.StdinPipe()
	must(t, err)
	echo, err := other.StdoutPipe()
	must(t, err)
	must(t, other.Start())
	t.Cleanup(func() { keep.Close(); must(t, other.Wait()) })
	_, err = io.WriteString(keep, "ready")
	must(t, err)
	_, err = io.ReadFull(echo, make([]byte, 5))
	must(t, err)
	there := func() bool {
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", other.Process.Pid))
		must(t, err)
		return strings.Contains(string(table), " "+target+" ")
	}
	if !there() {
		t.Fatal("the other namespace should have the mount")
	}
	must(t, mount.Unmount(target))
	if !there() {
		t.Skip("the mount left the other namespace with the unmount already")
	}
	must(t, d.Unmounted(t.Context(), "child"))
	if there() {
		t.Error("the layer is still mounted in the other namespace")
	}
}

// An ext4 without overlayfs' needs can't be had here, but overlayfs on overlayfs can.
func TestUnsupportedPlaces(t *testing.T) {
	testutil.Root(t)
	_, d := freshStore(t)
	target := perform(t, d, "child", drivers.MountOptions{})
	_, err := overlay.Open(t.Context(), overlay.Options{Place: drivers.Place{Root: target}})
	if !errors.Is(err, errdefs.ErrUnsupported) || !strings.Contains(err.Error(), "overlayfs") ||
		!strings.Contains(err.Error(), "vfs") {
		t.Errorf("on top of overlayfs: %v", err)
	}
	if _, err := os.Stat(filepath.Join(target, "overlay")); err == nil {
		t.Error("a home was left where the driver can't work, which would choose it the next time")
	}
}
