package fsat_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// makeDeep makes a chain of directories that no path can name, with a file on every
// hundredth level.
func makeDeep(t *testing.T, dir string, levels int) {
	t.Helper()
	name := strings.Repeat("d", 100)
	at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { unix.Close(at) }()
	for level := range levels {
		if level%100 == 0 {
			fd, err := unix.Openat(at, fmt.Sprint("file", level), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o640)
			if err != nil {
				t.Fatal(err)
			}
			unix.Write(fd, []byte(name[:level%97]))
			unix.Close(fd)
		}
		if err := unix.Mkdirat(at, name, 0o750); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(at)
		at = next
	}
}

// levels counts how deep a chain of makeDeep is, and the files in it.
func levels(t *testing.T, dir string) (dirs, files int) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for {
		f := os.NewFile(uintptr(at), dir)
		entries, err := f.ReadDir(-1)
		if err != nil {
			t.Fatal(err)
		}
		next := -1
		for _, e := range entries {
			if !e.IsDir() {
				files++
				continue
			}
			dirs++
			if next, err = unix.Openat(int(f.Fd()), e.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC,
				0); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
		if next < 0 {
			return dirs, files
		}
		at = next
	}
}

// withFewDescriptors makes sure that a tree's depth is not paid for in open files.
func withFewDescriptors(t *testing.T) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 256, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &before) })
}

// outside is a directory that nothing may change, whatever the tree beside it says.
func outside(t *testing.T) (dir string, unchanged func()) {
	t.Helper()
	dir = t.TempDir()
	testutil.Tree(t, dir, "precious=data 0640 @1700000000", "sub/deeper/file=more @1600000000.5",
		"sub/empty/ 0700 @1500000000")
	before := testutil.Snapshot(t, dir)
	return dir, func() {
		t.Helper()
		testutil.SameTree(t, before, testutil.Snapshot(t, dir))
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func mount(t *testing.T, source, target, fstype string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(source, target, fstype, flags, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}

func mustWrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
