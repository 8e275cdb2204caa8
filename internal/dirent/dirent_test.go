package dirent_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/dirent"
	"golang.org/x/sys/unix"
)

func TestDirectories(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if empty, err := dirent.Empty(fd); !empty || err != nil {
		t.Errorf("an empty directory: %v, %v", empty, err)
	}
	want := []string{"a", "\xff\n", strings.Repeat("x", 255)}
	for i := range 2000 { // more than one system call reads
		want = append(want, fmt.Sprintf("file-%04d", i))
	}
	for _, name := range want {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	want = append(want, "sub")
	slices.Sort(want)
	for range 2 { // from the start each time
		if empty, err := dirent.Empty(fd); empty || err != nil {
			t.Errorf("a full directory: %v, %v", empty, err)
		}
		list, err := dirent.List(fd)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range list {
			names = append(names, e.Name)
			var st unix.Stat_t
			if err := unix.Fstatat(fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				t.Fatal(err)
			}
			if e.Ino != st.Ino || e.Type != unix.DT_UNKNOWN && uint32(e.Type) != st.Mode>>12 {
				t.Fatalf("%q: inode %d, type %d", e.Name, e.Ino, e.Type)
			}
		}
		if !slices.Equal(names, want) {
			t.Fatalf("%d names, want %d", len(names), len(want))
		}
	}
	if _, _, err := dirent.Read(-1, nil); !errors.Is(err, unix.EBADF) {
		t.Errorf("no directory: %v", err)
	}
}
