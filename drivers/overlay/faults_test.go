package overlay_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// A mount that is in use goes from its place at once. Who uses it goes on, and the layer
// can be mounted again and deleted.
func TestBusyUnmount(t *testing.T) {
	testutil.Root(t)
	_, d := freshStore(t)
	target := perform(t, d, "child", drivers.MountOptions{})
	inUse, err := os.OpenFile(target+"/used", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer inUse.Close()
	must(t, mount.Unmount(target))
	must(t, d.Unmounted(t.Context(), "child"))
	if _, err := inUse.WriteString("still there"); err != nil {
		t.Errorf("the file in use: %v", err)
	}
	perform(t, d, "child", drivers.MountOptions{})
	if got, err := os.ReadFile(target + "/used"); err != nil || string(got) != "still there" {
		t.Errorf("mounted again: %q (%v)", got, err)
	}
	trash, err := d.Delete(t.Context(), "child")
	must(t, err)
	must(t, trash.Empty(t.Context()))
	if _, err := inUse.Stat(); err != nil {
		t.Error(err)
	}
}

// What is found in the mount point's place, or was put there while the layer wasn't
// mounted, gives way.
func TestStaleMergedGivesWay(t *testing.T) {
	testutil.Root(t)
	root, d := freshStore(t)
	layer := filepath.Join(root, "overlay/child")
	for name, spoil := range map[string]func(merged string) error{
		"nothing":          os.Remove,
		"a file":           func(m string) error { return errors.Join(os.Remove(m), os.WriteFile(m, nil, 0o600)) },
		"a link elsewhere": func(m string) error { return errors.Join(os.Remove(m), os.Symlink("/etc", m)) },
		"a directory with files": func(m string) error {
			return errors.Join(os.Mkdir(m+"/sub", 0o700), os.WriteFile(m+"/sub/f", nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, spoil(layer+"/merged"))
			target := perform(t, d, "child", drivers.MountOptions{})
			if is, err := mount.IsMountPoint(layer + "/merged"); !is || err != nil {
				t.Errorf("mounted: %t, %v", is, err)
			}
			must(t, mount.Unmount(target))
			must(t, d.Unmounted(t.Context(), "child"))
			if left, err := os.ReadDir(layer + "/merged"); err != nil || len(left) > 0 {
				t.Errorf("merged holds %v (%v)", left, err)
			}
		})
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Error(err)
	}
}

// On a file system that has become read-only, what is there can be read and mounted for
// reading; everything else says why it can't be.
func TestReadOnlyFileSystem(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, testutil.UnmountBelow(dir)); must(t, mount.Unmount(dir)) })
	d := open(t, place(dir)).(*overlay.Driver)
	must(t, create(t.Context(), d, "base", ""))
	must(t, create(t.Context(), d, "child", "base"))
	must(t, unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))

	d = open(t, place(dir)).(*overlay.Driver)
	if ids, err := d.List(t.Context()); err != nil || len(ids) != 2 {
		t.Errorf("layers %v (%v)", ids, err)
	}
	target := perform(t, d, "child", drivers.MountOptions{ReadOnly: true})
	if _, err := os.Stat(target + "/new"); err != nil {
		t.Error(err)
	}
	must(t, mount.Unmount(target))
	_, stageErr := d.Stage(t.Context(), "base", drivers.StageOptions{})
	_, deleteErr := d.Delete(t.Context(), "child")
	must(t, d.Unmounted(t.Context(), "child"))
	for what, err := range map[string]error{"stage": stageErr, "delete": deleteErr} {
		if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), dir) &&
			!strings.Contains(err.Error(), "child") {
			t.Errorf("%s: %v", what, err)
		}
	}
	specs, err := d.Mounts(t.Context(), "child", drivers.MountOptions{})
	if err == nil {
		err = mount.Perform(t.Context(), specs[0])
	}
	if err == nil || !strings.Contains(err.Error(), "child/merged") {
		t.Errorf("mount for writing: %v", err)
	}
	if ids, err := d.List(t.Context()); err != nil || len(ids) != 2 {
		t.Errorf("layers in the end: %v (%v)", ids, err)
	}
}

// A full disk stops what needs room with the kernel's own error and leaves nothing; what
// needs none goes on, so that deleting makes room again.
func TestFullDisk(t *testing.T) {
	dir := testutil.LoopFS(t, "ext4", 16)
	d := open(t, place(dir)).(*overlay.Driver)
	must(t, create(t.Context(), d, "base", ""))
	s, err := d.Stage(t.Context(), "base", drivers.StageOptions{})
	must(t, err)
	fill(t, filepath.Join(s.Content(), "ballast"))
	must(t, errors.Join(s.Commit(t.Context(), "big"), s.Discard()))
	for {
		s, err := d.Stage(t.Context(), "base", drivers.StageOptions{})
		if err == nil { // an inode and a block may have been left
			fill(t, filepath.Join(s.Content(), "rest"))
			must(t, s.Discard())
			fill(t, filepath.Join(dir, "rest"))
			continue
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		break
	}
	if ids, err := d.List(t.Context()); err != nil || len(ids) != 2 {
		t.Errorf("layers %v (%v)", ids, err)
	}
	perform(t, d, "base", drivers.MountOptions{ReadOnly: true})
	trash, err := d.Delete(t.Context(), "big")
	must(t, err)
	must(t, trash.Empty(t.Context()))
	must(t, create(t.Context(), d, "next", "base"))
	info, err := d.Stat(t.Context(), "base")
	must(t, err)
	if left, err := os.ReadDir(filepath.Join(info.Content, "../../tempdirs")); err != nil || len(left) > 0 {
		t.Errorf("left in tempdirs: %v (%v)", left, err)
	}
}

// fill writes until nothing more fits.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if errors.Is(err, unix.ENOSPC) {
		return
	}
	must(t, err)
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(slices.Repeat([]byte{'x'}, size)); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			size /= 2
		}
	}
}
