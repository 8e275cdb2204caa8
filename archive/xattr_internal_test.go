package archive

import (
	"errors"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// Before Linux 6.13 attributes are listed through /proc, with the same result and as
// little regard for links.
func TestXattrsOfOldKernels(t *testing.T) {
	dir := t.TempDir()
	testutil.Tree(t, dir, "f=x user.one=1 user.two=2", "l->f", "p|")
	root, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.release()
	long := "user." + strings.Repeat("n", 240)
	for i := range 10 { // more names than the first buffer holds
		if err := unix.Lsetxattr(dir+"/f", long+string(rune('a'+i)), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"f", "l", "p"} {
		now, before := newXattrBuffers(), newXattrBuffers()
		before.old = true
		got, err := now.list(xattrAt(root.fd, name))
		want, errBefore := before.list(xattrAt(root.fd, name))
		if err != nil || errBefore != nil || string(got) != string(want) ||
			(name == "f") != strings.Contains(string(got), "user.two\x00") {
			t.Errorf("%s: %q, %v; before %q, %v", name, got, err, want, errBefore)
		}
	}
}

// A list that would take the memory of its host is an error instead.
func TestChangeListsAreBounded(t *testing.T) {
	var l changeList
	path := strings.Repeat("x", 1<<20)
	for range changesMax >> 20 {
		if err := l.add(path, Added); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.add(path, Added); !errors.Is(err, errdefs.ErrInvalid) {
		t.Error(err)
	}
	l.cut()
	l.cut()
	if err := l.add(path, Added); err != nil {
		t.Error(err)
	}
}
