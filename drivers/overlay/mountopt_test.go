package overlay_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// Each option of mountopt does on a mounted layer what mount(8) and the kernel's
// overlayfs.rst say.
func TestMountOptionsAtWork(t *testing.T) {
	testutil.HostRoot(t)
	flag := func(want int64) func(t *testing.T, target, upper string) {
		return func(t *testing.T, target, _ string) {
			var st unix.Statfs_t
			must(t, unix.Statfs(target, &st))
			if st.Flags&want != want {
				t.Errorf("flags %#x, want %#x among them", st.Flags, want)
			}
		}
	}
	listed := func(option string) func(t *testing.T, target, upper string) {
		return func(t *testing.T, target, _ string) {
			table, err := os.ReadFile("/proc/self/mountinfo")
			must(t, err)
			for line := range strings.Lines(string(table)) {
				if strings.Contains(line, " "+target+" ") &&
					strings.Contains(","+strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:])+",", ","+option+
						",") {
					return
				}
			}
			t.Errorf("the mount table doesn't show %s", option)
		}
	}
	for option, check := range map[string]func(t *testing.T, target, upper string){
		"nodev":       flag(unix.ST_NODEV),
		"nosuid":      flag(unix.ST_NOSUID),
		"noexec":      flag(unix.ST_NOEXEC),
		"noatime":     flag(unix.ST_NOATIME),
		"nosymfollow": flag(0x2000), // ST_NOSYMFOLLOW, Linux 5.10
		"ro": func(t *testing.T, target, _ string) {
			if err := os.Mkdir(target+"/another", 0o700); !errors.Is(err, unix.EROFS) {
				t.Errorf("mkdir: %v", err)
			}
		},
		"metacopy=on": func(t *testing.T, target, upper string) {
			must(t, os.Chmod(target+"/f", 0o600))
			if n, err := unix.Lgetxattr(upper+"/f", "trusted.overlay.metacopy", nil); err != nil {
				t.Errorf("the file was copied with its data: %d, %v", n, err)
			}
		},
		"redirect_dir=on": func(t *testing.T, target, _ string) { must(t, os.Rename(target+"/dir", target+"/dir2")) },
		"redirect_dir=off": func(t *testing.T, target, _ string) {
			if err := os.Rename(target+"/dir", target+"/dir2"); !errors.Is(err, unix.EXDEV) {
				t.Errorf("rename: %v", err)
			}
		},
		"index=on": listed("index=on"),
		// the kernel shows it only where the layers lie on several file systems
		"xino=on": func(*testing.T, string, string) {},
		"volatile": func(t *testing.T, _, upper string) {
			if _, err := os.Stat(filepath.Join(upper, "../work/work/incompat/volatile")); err != nil {
				t.Error(err)
			}
		},
		"userxattr": listed("userxattr"),
	} {
		t.Run(option, func(t *testing.T) {
			d := openWith(t, t.TempDir(), option)
			s, err := d.Stage(t.Context(), "", drivers.StageOptions{})
			must(t, err)
			testutil.Tree(t, s.Content(), "f=content", "dir/f=x")
			must(t, errors.Join(s.Commit(t.Context(), "base"), s.Discard()))
			must(t, create(t.Context(), d, "child", "base"))
			target := perform(t, d, "child", drivers.MountOptions{})
			info, err := d.Stat(t.Context(), "child")
			must(t, err)
			check(t, target, info.Content)
		})
	}
	for option, named := range map[string]string{"xino=maybe": "xino=maybe", "index=2": "index=2",
		"nonsense": "nonsense", "redirect_dir=up": "redirect_dir=up"} {
		t.Run(option, func(t *testing.T) {
			d := openWith(t, t.TempDir(), option)
			must(t, create(t.Context(), d, "base", ""))
			specs, err := d.Mounts(t.Context(), "base", drivers.MountOptions{})
			if err == nil {
				err = mount.Perform(t.Context(), specs[0])
			}
			if err == nil || !strings.Contains(err.Error(), named) {
				t.Errorf("%v", err)
			}
		})
	}
}

// skip_mount_home leaves the home as it is; without it the home becomes a private mount.
func TestSkipMountHome(t *testing.T) {
	testutil.Root(t)
	for _, skip := range []bool{true, false} {
		root := t.TempDir()
		d := openOptions(t, root, skip)
		must(t, d.PrepareHome(t.Context()))
		if is, err := mount.IsPrivate(filepath.Join(root, "overlay")); is == skip || err != nil {
			t.Errorf("skip_mount_home %t: the home is a private mount: %t, %v", skip, is, err)
		}
		if prepared, err := d.HomePrepared(); !prepared || err != nil {
			t.Errorf("skip_mount_home %t: prepared: %t, %v", skip, prepared, err)
		}
		must(t, d.ReleaseHome(t.Context()))
		if is, err := mount.IsMountPoint(filepath.Join(root, "overlay")); is || err != nil {
			t.Errorf("skip_mount_home %t: still mounted: %t, %v", skip, is, err)
		}
	}
}
