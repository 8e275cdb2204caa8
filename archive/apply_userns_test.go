package archive_test

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// In a user namespace the kernel refuses some of what a layer asks for. Devices and
// foreign attributes are left out; the rest is there.
func TestApplyInAUserNamespace(t *testing.T) {
	if !testutil.InUserNS(t) {
		return
	}
	data := tarball(
		member{name: "f", body: "f", mode: 0o4755, pax: [][2]string{{"SCHILY.xattr.trusted.x", "1"},
			{"SCHILY.xattr.user.y", "2"}}},
		member{name: "null", typ: tar.TypeChar, dev: [2]int64{1, 3}},
		member{name: "disk", typ: tar.TypeBlock, dev: [2]int64{8, 0}},
		member{name: "p", typ: tar.TypeFifo},
		member{name: "d/.wh.x"}, member{name: "d/.wh..wh..opq"},
	)
	dir, split, _ := applied(t, data, apply.Options{Whiteouts: archive.OverlayUser})
	sameLines(t, []string{"d d", "c d/x 0:0", `f f "f"`, "p p"}, listing(t, dir))
	got := testutil.Snapshot(t, dir)
	if !strings.Contains(got["f"], `user.y="2"`) || strings.Contains(got["f"], "trusted.x") ||
		!strings.Contains(got["f"], "mode=4755") {
		t.Errorf("f is %s", got["f"])
	}
	if !strings.Contains(got["d"], `user.overlay.opaque="y"`) {
		t.Errorf("d is %s", got["d"])
	}
	sameReplay(t, data, dir, split)
}

// An ID that the namespace doesn't have can't own a file, unless that is asked to be
// ignored.
func TestApplyIgnoresOwnersItCannotSet(t *testing.T) {
	if !testutil.InUserNS(t) {
		return
	}
	data := tarball(member{name: "f", uid: 4_000_000_000, gid: 4_000_000_000, body: "f", mode: 0o755},
		member{name: "d/", uid: 4_000_000_000},
		member{name: "l", typ: tar.TypeSymlink, link: "f", uid: 4_000_000_000},
		member{name: "p", typ: tar.TypeFifo, gid: 4_000_000_000}, member{name: ".wh.x", uid: 4_000_000_000})
	_, _, err := applyTo(t, t.TempDir(), data, apply.Options{Whiteouts: archive.OverlayUser})
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), `entry "f"`) ||
		!strings.Contains(err.Error(), "set owner 4000000000:4000000000") ||
		!strings.Contains(err.Error(), "user ID 4000000000 isn't among those of this user namespace, 0") {
		t.Errorf("error is %v", err)
	}
	dir, _, _ := applied(t, data, apply.Options{Whiteouts: archive.OverlayUser, IgnoreChownErrors: true})
	sameLines(t, []string{"d d", `f f "f"`, "l l f", "p p", "c x 0:0"}, listing(t, dir))
}

// CVE-2018-15664: somebody outside swaps a directory of the layer for a symlink to the
// host, a directory for that symlink, and so on, as fast as it goes. The layer may come
// out broken or be refused; the host is never touched.
func TestApplyWhileDirectoriesAreSwapped(t *testing.T) {
	base := t.TempDir()
	sentinels(t, base)
	before := sentinelState(t, base)
	var members []member
	for i := range 300 {
		sub := "d/sub" + string(rune('a'+i%7))
		members = append(members, member{name: sub + "/file", body: "x", uid: int64(os.Geteuid())},
			member{name: "d/x", body: "y"}, member{name: "h", typ: tar.TypeLink, link: "d/x"},
			member{name: "d/.wh.file"}, member{name: sub + "/", mode: 0o777})
	}
	data := tarball(members...)
	for range 20 {
		layer := filepath.Join(base, "layer")
		if err := os.MkdirAll(filepath.Join(layer, "d"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../outside", filepath.Join(layer, "swap")); err != nil {
			t.Fatal(err)
		}
		var stop atomic.Bool
		swapped := make(chan int)
		go func() {
			n := 0
			for ; !stop.Load(); n++ {
				_ = unix.Renameat2(unix.AT_FDCWD, layer+"/d", unix.AT_FDCWD, layer+"/swap", unix.RENAME_EXCHANGE)
			}
			swapped <- n
		}()
		_, err := apply.Tar(context.Background(), layer, &slowReader{data}, nil, apply.Options{})
		stop.Store(true)
		n := <-swapped
		t.Logf("%d swaps, error %v", n, err)
		if err := os.RemoveAll(layer); err != nil {
			t.Fatal(err)
		}
		if lines := testutil.Diff(before, sentinelState(t, base)); len(lines) > 0 {
			t.Fatalf("outside of the layer something has changed:\n%s", strings.Join(lines, "\n"))
		}
	}
}

// slowReader gives a little at a time, so that the planner and the writers are at work
// while others are.
type slowReader struct{ data []byte }

func (r *slowReader) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.data[:min(len(r.data), 4096)])
	r.data = r.data[n:]
	return n, nil
}

// What the kernel refuses for want of space or rights is no fault of the archive's.
func TestApplyOnAFullFileSystem(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	checkLeaks(t)
	_, _, err := applyTo(t, dir, tarball(member{name: "a", body: "x"},
		member{name: "big", body: string(testutil.Noise("big", 5<<20))}, member{name: "z", body: "z"}),
		apply.Options{})
	if !errors.Is(err, unix.ENOSPC) || errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), `entry "`) {
		t.Errorf("error is %v", err)
	}
}
