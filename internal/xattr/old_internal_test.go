package xattr

import (
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// Before Linux 6.13 attributes are listed through /proc, with the same result and as
// little regard for links.
func TestXattrsOfOldKernels(t *testing.T) {
	dir := t.TempDir()
	testutil.Tree(t, dir, "f=x user.one=1 user.two=2", "l->f", "p|")
	root, err := openat.At(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	long := "user." + strings.Repeat("n", 240)
	for i := range 10 { // more names than the first buffer holds
		if err := unix.Lsetxattr(dir+"/f", long+string(rune('a'+i)), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"f", "l", "p"} {
		now, before := NewReader(), NewReader()
		before.old = true
		got, err := now.List(At(root, name))
		want, errBefore := before.List(At(root, name))
		if err != nil || errBefore != nil || string(got) != string(want) ||
			(name == "f") != strings.Contains(string(got), "user.two\x00") {
			t.Errorf("%s: %q, %v; before %q, %v", name, got, err, want, errBefore)
		}
	}
}
