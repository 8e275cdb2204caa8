package openat_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openDir(t *testing.T, path string) int {
	t.Helper()
	fd, err := openat.At(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestHowLinksAreTreated(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "root")
	must(t, os.MkdirAll(filepath.Join(root, "a/b"), 0o755))
	for _, file := range []string{"outside", "root/outside", "root/a/b/f"} {
		must(t, os.WriteFile(filepath.Join(top, file), []byte(file), 0o644))
	}
	for name, target := range map[string]string{"up": "../../outside", "abs": "/a/b", "in": "a", "a/last": "b/f",
		"loop": "loop"} {
		must(t, os.Symlink(target, filepath.Join(root, name)))
	}
	fd := openDir(t, root)
	type open func(int, string, int) (int, error)
	cases := []struct {
		how  string
		open open
		path string
		want any // the content, or the error
	}{
		{"in root", openat.InRoot, "a/b/f", "root/a/b/f"},
		{"in root", openat.InRoot, "/a/b/f", "root/a/b/f"},
		{"in root", openat.InRoot, "abs/f", "root/a/b/f"},
		{"in root", openat.InRoot, "in/b/f", "root/a/b/f"},
		{"in root", openat.InRoot, "a/last", "root/a/b/f"},
		{"in root", openat.InRoot, "up", "root/outside"},
		{"in root", openat.InRoot, "a/../../../outside", "root/outside"},
		{"in root", openat.InRoot, "loop", unix.ELOOP},
		{"in root", openat.InRoot, "none", unix.ENOENT},
		{"in root", openat.InRoot, "a/b/f/", unix.ENOTDIR},
		{"beneath", openat.Beneath, "a/b/f", "root/a/b/f"},
		{"beneath", openat.Beneath, "a/../outside", "root/outside"},
		{"beneath", openat.Beneath, "a/../../outside", unix.EXDEV},
		{"beneath", openat.Beneath, "/a/b/f", unix.EXDEV},
		{"beneath", openat.Beneath, "in/b/f", unix.ELOOP},
		{"beneath", openat.Beneath, "abs/f", unix.ELOOP},
		{"beneath", openat.Beneath, "a/last", unix.ELOOP},
		{"beneath", openat.Beneath, "up", unix.ELOOP},
		{"same mount", openat.SameMount, "a/b/f", "root/a/b/f"},
		{"same mount", openat.SameMount, "in/b/f", unix.ELOOP},
		{"same mount", openat.SameMount, "../outside", unix.EXDEV},
		{"regular", openat.RegularInRoot, "abs/f", "root/a/b/f"},
		{"regular", openat.RegularInRoot, "abs", openat.ErrNotRegular},
		{"regular", openat.RegularInRoot, "none", unix.ENOENT},
	}
	for _, c := range cases {
		got, err := c.open(fd, c.path, unix.O_RDONLY)
		if want, fails := c.want.(error); fails {
			if !errors.Is(err, want) {
				t.Errorf("%s, %s: %v, want %v", c.how, c.path, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s, %s: %v", c.how, c.path, err)
			continue
		}
		data := make([]byte, 64)
		n, err := unix.Read(got, data)
		must(t, err)
		unix.Close(got)
		if string(data[:n]) != c.want {
			t.Errorf("%s, %s: found %q, want %q", c.how, c.path, data[:n], c.want)
		}
	}
}

func TestOnlyRegularFiles(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(path("file"), nil, 0o600))
	must(t, os.Mkdir(path("directory"), 0o700))
	must(t, os.Symlink("file", path("link")))
	must(t, unix.Mkfifo(path("fifo"), 0o600))
	socket, err := net.Listen("unix", path("socket"))
	must(t, err)
	defer socket.Close()
	names := []string{"directory", "link", "fifo", "socket"}
	// A number that no driver has, and one of a device that can be read for ever.
	for name, dev := range map[string]uint64{"nothing": unix.Mkdev(511, 255), "zero": unix.Mkdev(1, 5)} {
		if err := unix.Mknod(path(name), unix.S_IFCHR|0o600, int(dev)); err != nil {
			t.Logf("no devices: %v", err)
			continue
		}
		names = append(names, name)
	}
	fd := openDir(t, dir)
	for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR} {
		got, err := openat.Regular(fd, "file", flags, nil)
		must(t, err)
		unix.Close(got)
		for _, name := range names {
			if got, err := openat.Regular(fd, name, flags, nil); !errors.Is(err, openat.ErrNotRegular) {
				unix.Close(got)
				t.Errorf("%s, flags %#o: %v, want %v", name, flags, err, openat.ErrNotRegular)
			}
		}
	}
	if _, err := openat.Regular(fd, "none", unix.O_RDONLY, nil); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := openat.Dir(fd, "link"); !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a link as a directory: %v", err)
	}
}

func TestPathsBeyondPathMax(t *testing.T) {
	dir := t.TempDir()
	name := strings.Repeat("n", 200)
	at := openDir(t, dir)
	const depth = 60
	for range depth {
		must(t, unix.Mkdirat(at, name, 0o755))
		next, err := openat.Dir(at, name)
		must(t, err)
		defer unix.Close(next)
		at = next
	}
	var want unix.Stat_t
	must(t, unix.Fstat(at, &want))
	long := strings.TrimSuffix(strings.Repeat(name+"/", depth), "/")
	root := openDir(t, dir)
	for how, open := range map[string]func(int, string, int) (int, error){
		"in root": openat.InRoot, "beneath": openat.Beneath, "same mount": openat.SameMount,
	} {
		fd, err := open(root, long, unix.O_PATH)
		if err != nil {
			t.Errorf("%s: %v", how, err)
			continue
		}
		var st unix.Stat_t
		must(t, unix.Fstat(fd, &st))
		unix.Close(fd)
		if st.Ino != want.Ino {
			t.Errorf("%s: found another directory", how)
		}
	}
	// removed from within, since no path reaches the end
	must(t, os.RemoveAll(dir))
}

// The kernel gives up a look-up of ".." beneath a rename anywhere on the machine (EAGAIN,
// openat2(2)); nobody who asks for a file wants to hear of it.
func TestBesideRenames(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "root/a/b"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "root/f"), nil, 0o644))
	must(t, os.MkdirAll(filepath.Join(dir, "one/d"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "two"), 0o755))
	root := openDir(t, filepath.Join(dir, "root"))
	var stop atomic.Bool
	done := make(chan error)
	go func() {
		from, to := filepath.Join(dir, "one/d"), filepath.Join(dir, "two/d")
		for !stop.Load() {
			if err := os.Rename(from, to); err != nil {
				done <- err
				return
			}
			from, to = to, from
		}
		done <- nil
	}()
	defer func() {
		stop.Store(true)
		must(t, <-done)
	}()
	const path = "a/b/../../a/b/../../a/../f"
	bare := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	met := 0
	for end := time.Now().Add(time.Minute); met < 20; {
		for range 500 {
			fd, err := unix.Openat2(root, path, &bare)
			if err == unix.EAGAIN {
				met++
			} else {
				must(t, err)
				unix.Close(fd)
			}
			for _, open := range []func(int, string, int) (int, error){openat.InRoot, openat.Beneath} {
				fd, err := open(root, path, unix.O_RDONLY)
				if err != nil {
					t.Fatalf("after %d look-ups that the kernel gave up: %v", met, err)
				}
				unix.Close(fd)
			}
		}
		if time.Now().After(end) {
			t.Skipf("the kernel gave up %d look-ups only", met)
		}
	}
}
