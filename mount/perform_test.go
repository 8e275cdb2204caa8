package mount_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// stack makes n lower directories that each hold a file of their number, an upper and a
// work directory, and a place to mount on.
func stack(t testing.TB, n int, name string) mount.Spec {
	t.Helper()
	dir := t.TempDir()
	s := mount.Spec{Type: "overlay", Source: "overlay"}
	mk := func(path string) string {
		path = filepath.Join(dir, name, path)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for i := range n {
		lower := mk(fmt.Sprintf("%064d/diff", i))
		if err := os.WriteFile(filepath.Join(lower, fmt.Sprint("file", i)), []byte(fmt.Sprint(i)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(lower, "who"), []byte(fmt.Sprint(i)), 0o644); err != nil {
			t.Fatal(err)
		}
		s.Lower = append(s.Lower, lower)
	}
	s.Upper, s.Work, s.Target = mk("upper"), mk("work"), mk("merged")
	t.Cleanup(func() {
		if err := mount.Unmount(s.Target); err != nil {
			t.Error(err)
		}
	})
	return s
}

// ways are the ways of making one and the same mount.
var ways = map[string]func(context.Context, mount.Spec) error{
	"new API": mount.Perform, "descriptors": mount.PerformByDescriptor, "mount(2)": mount.PerformClassic,
}

func TestOverlayOfManyLowers(t *testing.T) {
	testutil.Root(t)
	manyLowers(t)
}

// Every way works for root of a user namespace as well, with attributes in
// user.overlay.*.
func TestOverlayOfManyLowersInUserNamespace(t *testing.T) {
	if testutil.InUserNS(t) {
		manyLowers(t, "userxattr")
	}
}

func manyLowers(t *testing.T, options ...string) {
	for way, perform := range ways {
		for _, n := range []int{1, 2, 39, 60, 200, 500} {
			t.Run(fmt.Sprintf("%s/%d", way, n), func(t *testing.T) {
				s := stack(t, n, "store")
				s.Data = options
				if err := perform(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(filepath.Join(s.Target, "who")); err != nil || string(got) != "0" {
					t.Fatalf("the nearest lower must win: %q, %v", got, err)
				}
				if _, err := os.Stat(filepath.Join(s.Target, fmt.Sprint("file", n-1))); err != nil {
					t.Fatalf("the farthest lower is missing: %v", err)
				}
				if err := os.WriteFile(filepath.Join(s.Target, "new"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(filepath.Join(s.Upper, "new")); err != nil {
					t.Fatalf("a new file belongs in the upper directory: %v", err)
				}
			})
		}
	}
}

// mount(2) can't take more than a page, whatever is done about the lower directories.
func TestClassicHasALimit(t *testing.T) {
	testutil.Root(t)
	long := strings.Repeat("long/", 260)
	s := stack(t, 500, long)
	err := mount.PerformClassic(t.Context(), s)
	if !errors.Is(err, errdefs.ErrUnsupported) || !strings.Contains(err.Error(), "6.8") {
		t.Errorf("500 lowers and long paths: %v", err)
	}
	if err := mount.Perform(t.Context(), s); err != nil {
		t.Errorf("the new API has no such limit: %v", err)
	}
}

// A thread of ours changes its working directory; nobody else's may.
func TestClassicLeavesTheWorkingDirectoryAlone(t *testing.T) {
	testutil.Root(t)
	before, err := os.Readlink("/proc/self/cwd")
	must(t, err)
	var wg sync.WaitGroup
	for range 8 {
		s := stack(t, 100, "store")
		wg.Go(func() {
			if err := mount.PerformClassic(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if now, err := os.Readlink("/proc/self/cwd"); err != nil || now != before {
		t.Errorf("the process works in %s now (%v), before in %s", now, err, before)
	}
	for range 100 {
		wg.Go(func() {
			runtime.LockOSThread() // as many threads as goroutines
			if now, err := unix.Getwd(); err != nil || now != before {
				t.Errorf("a thread works in %s (%v)", now, err)
			}
			runtime.UnlockOSThread()
		})
	}
	wg.Wait()
}

// What separates lower directories, options and escapes must not matter in a path.
func TestOverlayOfOddPaths(t *testing.T) {
	testutil.Root(t)
	for way, perform := range ways {
		for _, name := range []string{"with space", "a:b", "a,b", `a\b`, `a\:b\,c=d`, "a=b", `"quoted"`, "new\nline",
			"é", strings.Repeat("long/", 60)} {
			t.Run(way+"/"+name, func(t *testing.T) {
				s := stack(t, 3, name)
				if err := perform(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(filepath.Join(s.Target, "who")); err != nil || string(got) != "0" {
					t.Fatalf("content through the mount: %q, %v", got, err)
				}
			})
		}
	}
}

func TestReadOnlyOverlay(t *testing.T) {
	testutil.Root(t)
	for way, perform := range ways {
		t.Run(way, func(t *testing.T) {
			s := stack(t, 2, "store")
			s.Upper, s.Work, s.Attr = "", "", unix.MOUNT_ATTR_RDONLY
			if err := perform(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.Target, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
				t.Fatalf("writing to it: %v", err)
			}
		})
	}
}

func TestFlagsReachTheMount(t *testing.T) {
	testutil.Root(t)
	wanted := []string{"nodev", "nosuid", "noexec", "noatime", "sync"}
	if testutil.OnHost() {
		wanted = append(wanted, "metacopy=on") // whose marks are trusted attributes
	}
	for way, perform := range ways {
		t.Run(way, func(t *testing.T) {
			s := stack(t, 1, "store")
			var err error
			if s.Attr, s.Data, err = mount.ParseOptions(append([]string{strings.Join(wanted[:2], ",")},
				wanted[2:]...)); err != nil {
				t.Fatal(err)
			}
			if err := perform(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			line := tableLine(t, s.Target)
			for _, want := range wanted {
				if !strings.Contains(line, want) {
					t.Errorf("%s is missing in %s", want, line)
				}
			}
		})
	}
}

func tableLine(t testing.TB, target string) string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, " "+target+" ") {
			return line
		}
	}
	t.Fatalf("%s is not mounted", target)
	return ""
}

// The message must name the option or directory at fault, and leave nothing mounted.
func TestErrorsSayWhatTheKernelSaid(t *testing.T) {
	testutil.Root(t)
	for name, c := range map[string]struct {
		spoil func(*mount.Spec)
		says  string
		is    error
	}{
		"unknown option": {func(s *mount.Spec) { s.Data = []string{"nonsense=1"} }, "nonsense", unix.EINVAL},
		"bad value":      {func(s *mount.Spec) { s.Data = []string{"metacopy=perhaps"} }, "metacopy", unix.EINVAL},
		"contradiction": {func(s *mount.Spec) {
			s.Data = []string{"userxattr", "metacopy=on"}
		}, "metacopy", unix.EINVAL},
		"lower missing":       {func(s *mount.Spec) { s.Lower[1] += "-gone" }, "diff-gone", unix.ENOENT},
		"upper missing":       {func(s *mount.Spec) { s.Upper += "-gone" }, "upper-gone", unix.ENOENT},
		"lower is a file":     {func(s *mount.Spec) { s.Lower[0] += "/who" }, "is not a directory", unix.EINVAL},
		"target missing":      {func(s *mount.Spec) { s.Target += "-gone" }, "merged-gone", unix.ENOENT},
		"work beneath upper":  {func(s *mount.Spec) { s.Work = s.Upper }, "work", unix.EINVAL},
		"no such file system": {func(s *mount.Spec) { s.Type = "overlie" }, "overlie", errdefs.ErrUnsupported},
		"relative target":     {func(s *mount.Spec) { s.Target = "merged" }, "absolute", errdefs.ErrInvalid},
		"upper without work":  {func(s *mount.Spec) { s.Work = "" }, "work directory", errdefs.ErrInvalid},
		"501 lowers": {func(s *mount.Spec) {
			for len(s.Lower) <= 500 {
				s.Lower = append(s.Lower, s.Lower[0])
			}
		}, "501", errdefs.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := stack(t, 2, "store")
			c.spoil(&s)
			err := mount.Perform(t.Context(), s)
			if err == nil || !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v: want %v that mentions %q", err, c.is, c.says)
			}
			t.Log(err)
			if is, err := mount.IsMountPoint(s.Target); is || err != nil {
				t.Errorf("mounted all the same (%v)", err)
			}
		})
	}
}
