package xattr_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// Every way to hold a file shows the same attributes.
func TestAllWaysAreOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(path string, flags int) int {
		fd, err := unix.Open(path, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	parent := open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	ways := map[string]xattr.File{
		"open": xattr.Open(open(path, unix.O_RDONLY)), "held": xattr.Held(open(path, unix.O_PATH)),
		"at": xattr.At(parent, "file"), "path": xattr.Path(path), "named": xattr.At(unix.AT_FDCWD, path),
	}
	if err := ways["open"].Set("user.probe", nil, 0); err != nil {
		t.Skip("no attributes here:", err)
	}
	long := bytes.Repeat([]byte("long"), 500) // more than a Reader begins with; ext4 has room for 4 KiB
	for how, f := range ways {
		if err := f.Set("user.way", []byte(how), 0); err != nil {
			t.Fatalf("%s: set: %v", how, err)
		}
		if err := f.Set("user.long", long, 0); err != nil {
			t.Fatalf("%s: set: %v", how, err)
		}
		if err := f.Set("user.way", nil, unix.XATTR_CREATE); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: create what is there: %v", how, err)
		}
		for other, f := range ways {
			r := xattr.NewReader()
			value, ok, err := r.Get(f, "user.way")
			if string(value) != how || !ok || err != nil {
				t.Errorf("%s after %s: %q, %v, %v", other, how, value, ok, err)
			}
			if value, _, err := r.Get(f, "user.long"); !bytes.Equal(value, long) || err != nil {
				t.Errorf("%s: %d bytes, %v", other, len(value), err)
			}
			if _, ok, err := r.Get(f, "user.none"); ok || err != nil {
				t.Errorf("%s: what isn't there: %v, %v", other, ok, err)
			}
			if n, err := f.Size("user.long"); n != len(long) || err != nil {
				t.Errorf("%s: size %d, %v", other, n, err)
			}
			if _, err := f.Size("user.none"); !errors.Is(err, unix.ENODATA) {
				t.Errorf("%s: size of what isn't there: %v", other, err)
			}
			names, err := r.List(f)
			if err != nil {
				t.Errorf("%s: %v", other, err)
			}
			var list []string
			for len(names) > 0 {
				var name []byte
				name, names = xattr.Next(names)
				if bytes.HasPrefix(name, []byte("user.")) {
					list = append(list, string(name))
				}
			}
			slices.Sort(list)
			if want := []string{"user.long", "user.probe", "user.way"}; !slices.Equal(list, want) {
				t.Errorf("%s: %q, want %q", other, list, want)
			}
		}
		for range 2 {
			if err := f.Remove("user.way"); err != nil {
				t.Errorf("%s: remove: %v", how, err)
			}
		}
	}
}

// A link's attributes are its own, and a name follows none.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := xattr.At(fd, "file").Set("user.probe", nil, 0); err != nil {
		t.Skip("no attributes here:", err)
	}
	if err := xattr.At(fd, "link").Set("user.other", nil, 0); err == nil {
		t.Error("an attribute was set through a link")
	}
	if names, err := xattr.NewReader().List(xattr.At(fd, "link")); bytes.Contains(names, []byte("user.")) ||
		err != nil {
		t.Errorf("the link shows %q, %v", names, err)
	}
	if n, err := xattr.Path(filepath.Join(dir, "link")).Size("user.probe"); n != 0 || err != nil {
		t.Errorf("by path: %v", err)
	}
}
