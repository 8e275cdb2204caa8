package selinux

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// A context option labels all that is seen through the mount, whichever way it is made.
// Its categories hold a comma, which separates options elsewhere.
func TestSELinuxContextOfAMount(t *testing.T) {
	testutil.SELinux(t)
	const label = fileType + "s0:c12,c345"
	for name, perform := range map[string]func(context.Context, mount.Spec) error{"any way": mount.Perform,
		"mount(2)": mount.PerformClassic} {
		for _, kind := range []string{"overlay", "tmpfs"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				testutil.Tree(t, dir, "lower/f=below", "upper/", "work/", "merged/")
				spec := mount.Spec{Type: kind, Source: kind, Target: filepath.Join(dir, "merged"),
					Data: []string{"context=" + label}}
				if kind == "overlay" {
					spec.Lower, spec.Upper, spec.Work = []string{filepath.Join(dir, "lower")},
						filepath.Join(dir, "upper"), filepath.Join(dir, "work")
				}
				if err := perform(t.Context(), spec); err != nil {
					t.Fatal(err)
				}
				defer unix.Unmount(spec.Target, unix.MNT_DETACH)
				if err := os.WriteFile(filepath.Join(spec.Target, "new"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				paths := []string{".", "new"}
				if kind == "overlay" {
					paths = append(paths, "f")
					if got := labelOf(t, filepath.Join(dir, "lower/f")); got == label {
						t.Errorf("the lower file itself has the label %s", got)
					}
				}
				for _, path := range paths {
					if got := labelOf(t, filepath.Join(spec.Target, path)); got != label {
						t.Errorf("%s: label %s, want %s", path, got, label)
					}
				}
				table, err := os.ReadFile("/proc/self/mounts")
				if err != nil {
					t.Fatal(err)
				}
				if want := `context="` + label + `"`; !strings.Contains(string(table), want) {
					t.Errorf("no %s in the mount table:\n%s", want, table)
				}
			})
		}
	}
}

// The kernel, not we, knows which labels exist.
func TestSELinuxUnknownLabelIsNoMount(t *testing.T) {
	testutil.SELinux(t)
	dir := t.TempDir()
	testutil.Tree(t, dir, "lower/", "merged/")
	spec := mount.Spec{Type: "overlay", Source: "overlay", Target: filepath.Join(dir, "merged"),
		Lower: []string{filepath.Join(dir, "lower"), dir},
		Data:  []string{"context=system_u:object_r:no_such_t:s0"}}
	if err := mount.Perform(t.Context(), spec); err == nil {
		unix.Unmount(spec.Target, unix.MNT_DETACH)
		t.Error("mounted")
	}
	if below, err := testutil.MountsBelow(dir); err != nil || len(below) != 0 {
		t.Errorf("mounted: %v, %v", below, err)
	}
}
