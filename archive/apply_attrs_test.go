package archive_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// ext4 answers ENOSPC to an attribute that doesn't fit into its inode and one block,
// however empty the disk is. It is told apart from a full disk, which is one.
func TestAttributeTooLargeIsNoFullDisk(t *testing.T) {
	dir := testutil.LoopFS(t, "ext4", 16)
	big := tarball(member{name: "f", pax: [][2]string{{"SCHILY.xattr.user.big", strings.Repeat("x", 30000)}}})
	var tooLarge errdefs.AttributeTooLarge
	_, _, err := applyTo(t, dir, big, apply.Options{})
	if !errors.As(err, &tooLarge) || tooLarge.Name != "user.big" || tooLarge.Size != 30000 ||
		errors.Is(err, unix.ENOSPC) {
		t.Errorf("too large: %v", err)
	}
	fill(t, dir)
	_, _, err = applyTo(t, dir, big, apply.Options{})
	if !errors.Is(err, unix.ENOSPC) || errors.As(err, &tooLarge) {
		t.Errorf("a full disk: %v", err)
	}
}

// What overlay notes of its layers isn't for an archive to say.
func TestOverlaysAttributesStayOut(t *testing.T) {
	testutil.HostRoot(t)
	var pax [][2]string
	for _, name := range []string{"trusted.overlay.metacopy", "trusted.overlay.redirect", "trusted.overlay.whiteout",
		"trusted.overlay.opaque", "trusted.overlay.origin", "user.overlay.redirect", "user.fuseoverlayfs.opaque",
		"user.kept", "trusted.kept"} {
		pax = append(pax, [2]string{"SCHILY.xattr." + name, "y"})
	}
	data := tarball(member{name: "f", body: "x", pax: pax}, member{name: "d/", pax: pax},
		member{name: "g"})
	dir, split, _ := applied(t, data, apply.Options{Whiteouts: archive.OverlayTrusted})
	for _, name := range []string{"f", "d"} {
		buf := make([]byte, 1000)
		n, err := unix.Llistxattr(dir+"/"+name, buf)
		if got := string(buf[:max(n, 0)]); err != nil || len(got) != len("user.kept")+len("trusted.kept")+2 ||
			strings.Contains(got, "overlay") {
			t.Errorf("%s has %q, %v", name, got, err)
		}
	}
	sameReplay(t, data, dir, split)
}

// fill leaves no block free.
func fill(t testing.TB, dir string) {
	t.Helper()
	f, err := os.Create(dir + "/filler")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
