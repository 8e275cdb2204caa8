package drivertest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

func emptyLayer(b *bench) {
	s := b.stage("", drivers.StageOptions{})
	if !filepath.IsAbs(s.Content()) {
		b.Errorf("the content's path %s is not absolute", s.Content())
	}
	b.layers()
	b.commit(s, "Base1")
	b.layers("Base1")
	path, unmount := b.mounted("Base1", drivers.MountOptions{})
	defer unmount()
	entries, err := os.ReadDir(path)
	b.must(err)
	if len(entries) != 0 {
		b.Errorf("an empty layer holds %v", entries)
	}
	b.owner(path, 0, 0, 0o555)
}

func (b *bench) owner(path string, uid, gid, mode uint32) {
	b.Helper()
	var st unix.Stat_t
	b.must(unix.Lstat(path, &st))
	if st.Uid != uid || st.Gid != gid || st.Mode&0o7777 != mode {
		b.Errorf("%s is %d:%d %04o, want %d:%d %04o", path, st.Uid, st.Gid, st.Mode&0o7777, uid, gid, mode)
	}
}

func baseLayer(b *bench) {
	s := b.stage("", drivers.StageOptions{},
		"etc/ 0750 @1000000000.5",
		"etc/passwd=root @1700000000.123456789",
		"etc/shadow=secret 0000",
		"bin/su*5000 04755",
		"bin/sh=>bin/su",
		"link->etc/passwd",
		"loop->loop",
		"pipe|",
		"old=x @-1.5",
		"tmp/ 01777",
		"attr=x user.test=value",
		"sparse*1")
	b.must(os.Truncate(filepath.Join(s.Content(), "sparse"), 1<<22))
	want := testutil.Snapshot(b, s.Content())
	b.commit(s, "base")
	testutil.SameTree(b, want, b.tree("base"))
}

func stackedLayers(b *bench) {
	b.create("base", "", "both=base", "only-base=base", "dir/a=base", "dir/b=base", "gone/x=base")
	before := b.tree("base")
	b.create("middle", "base", "both=middle", "only-middle=middle", "dir/c=middle")
	b.commit(b.stage("middle", drivers.StageOptions{Writable: true}), "top")
	b.layers("base", "middle", "top")

	path, unmount := b.mounted("top", drivers.MountOptions{})
	b.exists(path, "both", "only-base", "only-middle", "dir/a", "dir/b", "dir/c", "gone/x")
	data, err := os.ReadFile(filepath.Join(path, "both"))
	b.must(err)
	if string(data) != "middle" {
		b.Errorf("the nearer layer must win, and %q did", data)
	}
	b.must(os.WriteFile(filepath.Join(path, "both"), []byte("changed"), 0o644))
	b.must(os.Remove(filepath.Join(path, "only-base")))
	b.must(os.RemoveAll(filepath.Join(path, "gone")))
	b.must(os.Chmod(filepath.Join(path, "dir/a"), 0o600))
	b.must(os.WriteFile(filepath.Join(path, "new"), []byte("new"), 0o644))
	unmount()

	path, unmount = b.mounted("top", drivers.MountOptions{})
	b.exists(path, "new", "!only-base", "!gone", "dir/b")
	unmount()
	testutil.SameTree(b, before, b.tree("base"))
	middle, unmount := b.mounted("middle", drivers.MountOptions{})
	b.exists(middle, "!new", "only-base", "gone/x")
	unmount()
}

func inheritedRoot(b *bench) {
	s := b.stage("", drivers.StageOptions{})
	uid, gid := uint32(5), uint32(6)
	if err := unix.Lchown(s.Content(), int(uid), int(gid)); err != nil {
		uid, gid = 0, 0 // a user namespace with one ID
	}
	b.must(os.Chmod(s.Content(), 0o711))
	b.commit(s, "base")
	child := b.stage("base", drivers.StageOptions{})
	b.owner(child.Content(), uid, gid, 0o711)
	b.commit(child, "child")
	path, unmount := b.mounted("child", drivers.MountOptions{})
	defer unmount()
	b.owner(path, uid, gid, 0o711)
}

func mappedRoot(b *bench) {
	m := []idtools.Map{{ContainerID: 1, HostID: 1000, Size: 10}, {ContainerID: 0, HostID: 20000, Size: 1}}
	s, err := b.driver.Stage(b.ctx, "", drivers.StageOptions{IDMap: idtools.Mapping{UIDs: m, GIDs: m}})
	if errors.Is(err, unix.EINVAL) {
		b.Skip("needs the ID 20000, which this user namespace lacks")
	}
	b.must(err)
	b.owner(s.Content(), 20000, 20000, 0o555)
	b.must(s.Discard())

	_, err = b.driver.Stage(b.ctx, "", drivers.StageOptions{IDMap: idtools.Mapping{UIDs: m[:1], GIDs: m}})
	b.wantError(err, errdefs.ErrInvalid, "a map without the container's root")
}

func deepStack(b *bench) {
	depth := b.suite.Depth
	if depth == 0 {
		depth = 20
	}
	parent := ""
	for i := range depth {
		id := fmt.Sprintf("%064x", i)
		b.create(id, parent, fmt.Sprintf("file%d=x", i), fmt.Sprintf("who=%d", i))
		parent = id
	}
	path, unmount := b.mounted(parent, drivers.MountOptions{})
	defer unmount()
	b.exists(path, "file0", fmt.Sprint("file", depth/2), fmt.Sprint("file", depth-1))
	who, err := os.ReadFile(filepath.Join(path, "who"))
	b.must(err)
	if string(who) != fmt.Sprint(depth-1) {
		b.Errorf("the nearest layer is %d, and %s showed", depth-1, who)
	}
}

func template(b *bench) {
	b.create("base", "", "base=1")
	b.create("first", "base", "a/b=1 0640 @1600000000.25", "c=>a/b", "l->a")
	s := b.stage("base", drivers.StageOptions{Content: "first"})
	testutil.SameTree(b, testutil.Snapshot(b, b.stat("first").Content), testutil.Snapshot(b, s.Content()))
	b.must(os.WriteFile(filepath.Join(s.Content(), "a/b"), []byte("2"), 0o644))
	b.commit(s, "second")
	path, unmount := b.mounted("second", drivers.MountOptions{})
	b.exists(path, "base", "a/b", "c", "l")
	unmount()
	data, err := os.ReadFile(filepath.Join(b.stat("first").Content, "a/b"))
	b.must(err)
	if string(data) != "1" {
		b.Error("a change in the copy showed in the original")
	}
	_, err = b.driver.Stage(b.ctx, "base", drivers.StageOptions{Content: "nobody"})
	b.wantError(err, errdefs.ErrNotFound, "content of an unknown layer")
}

func replace(b *bench) {
	b.create("base", "", "old=1", "same=1")
	b.create("child", "base", "child=1")
	info := b.stat("base")
	s := b.stage("", drivers.StageOptions{Content: "base"})
	b.must(os.Remove(filepath.Join(s.Content(), "old")))
	testutil.Tree(b, s.Content(), "new=2")
	want := testutil.Snapshot(b, s.Content())
	trash, err := s.Replace(b.ctx, "base")
	b.must(err)
	b.must(s.Discard())
	if got := b.stat("base"); got.Content != info.Content || got.MountPoint != info.MountPoint {
		b.Errorf("the layer moved: %+v, before %+v", got, info)
	}
	testutil.SameTree(b, want, b.tree("base"))
	b.must(trash.Empty(b.ctx))
	testutil.SameTree(b, want, b.tree("base"))
	b.layers("base", "child")
	if len(b.stat("child").Lower) > 0 { // a driver that copies copied the old content
		path, unmount := b.mounted("child", drivers.MountOptions{})
		b.exists(path, "child", "new", "!old", "same")
		unmount()
	}

	_, err = b.stage("", drivers.StageOptions{}).Replace(b.ctx, "nobody")
	b.wantError(err, errdefs.ErrNotFound, "replace an unknown layer")
	_, err = s.Replace(b.ctx, "base")
	b.wantError(err, errdefs.ErrInvalid, "replace twice with one staged layer")
}

func readOnlyMount(b *bench) {
	b.create("base", "", "file=1")
	b.create("child", "base", "more=1")
	for _, id := range []string{"base", "child"} {
		for name, opts := range map[string]drivers.MountOptions{"ReadOnly": {ReadOnly: true, Volatile: true},
			"ro": {Options: []string{"ro"}}} {
			path, unmount := b.mounted(id, opts)
			b.exists(path, "file")
			if path != b.stat(id).Content {
				if err := os.WriteFile(filepath.Join(path, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
					b.Errorf("%s, %s: writing gave %v", id, name, err)
				}
			}
			unmount()
		}
	}
}

// A crash leaves marks of a volatile mount that must not stop the next one.
func remount(b *bench) {
	b.create("base", "", "file=1")
	b.create("child", "base")
	for i := range 3 {
		path, unmount := b.mounted("child", drivers.MountOptions{Volatile: true})
		b.must(os.WriteFile(filepath.Join(path, fmt.Sprint("n", i)), nil, 0o644))
		for j := range i {
			b.exists(path, fmt.Sprint("n", j))
		}
		unmount()
	}
}

func deleteLayer(b *bench) {
	b.create("base", "", "a/b/c=1", "a/locked/f=1")
	b.must(os.Chmod(filepath.Join(b.stat("base").Content, "a/locked"), 0))
	b.create("child", "base", "d=1")
	trash, err := b.driver.Delete(b.ctx, "child")
	b.must(err)
	b.unknown("child")
	b.layers("base")
	b.must(trash.Empty(b.ctx))
	b.must(trash.Empty(b.ctx))
	b.remove("base")
	b.layers()
	b.remove("base") // again
	b.remove("neverwas")
	b.noLeftovers()
	b.create("base", "", "again=1")
	b.exists(b.stat("base").Content, "again", "!a")
}

// noLeftovers fails the test if anything is left in tempdirs.
func (b *bench) noLeftovers() {
	b.Helper()
	b.must(filepath.WalkDir(b.place.Root, func(path string, e os.DirEntry, err error) error {
		if err == nil && filepath.Base(filepath.Dir(path)) == "tempdirs" {
			b.Errorf("left behind: %s", path)
		}
		return err
	}))
}

func usage(b *bench) {
	b.create("base", "", "a*1000", "b=>a", "dir/c*500", "l->12345")
	got, err := b.driver.Usage(b.ctx, "base")
	b.must(err)
	if want := (drivers.Usage{Bytes: 1505, Inodes: 5}); got != want {
		b.Errorf("usage %+v, want %+v: a and b are one file, and directories have no size", got, want)
	}
	b.create("child", "base", "d*70")
	got, err = b.driver.Usage(b.ctx, "child")
	b.must(err)
	if len(b.stat("child").Lower) > 0 {
		if want := (drivers.Usage{Bytes: 70, Inodes: 2}); got != want {
			b.Errorf("usage of the child %+v, want %+v", got, want)
		}
	}
	// Deeper than any path can be, and deeper than a process has descriptors.
	deep := filepath.Join(b.stat("base").Content, "deep")
	b.must(os.Mkdir(deep, 0o755))
	fd, err := unix.Open(deep, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	b.must(err)
	name := strings.Repeat("d", 100)
	for range 2000 {
		b.must(unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		b.must(err)
		b.must(unix.Close(fd))
		fd = next
	}
	b.must(unix.Close(fd))
	got, err = b.driver.Usage(b.ctx, "base")
	b.must(err)
	if got.Inodes != 5+2001 {
		b.Errorf("%d inodes in a deep tree, want %d", got.Inodes, 5+2001)
	}
	b.remove("base")
	b.noLeftovers()
}

// A footprint is what deleting the layer gives back, and the stamp tells of what may have
// changed it.
func footprint(b *bench) {
	f, ok := b.driver.(drivers.Measurer)
	if !ok {
		b.Skip("the driver measures no footprints")
	}
	b.create("base", "", "a*100000", "b=>a", "dir/c*1", "hole*0")
	content := b.stat("base").Content
	b.must(os.Truncate(filepath.Join(content, "hole"), 1<<30))
	got, err := f.Footprint(b.ctx, "base")
	b.must(err)
	if got.Bytes < 100_000 || got.Bytes > 1<<20 || got.Inodes < 5 || got.Inodes > 12 {
		b.Errorf("%+v for 100,001 bytes in three files, one with two names, one a hole", got)
	}
	stamp := func(id string) string {
		s, err := f.Stamp(b.ctx, id)
		b.must(err)
		return s
	}
	before := stamp("base")
	b.create("child", "base", "x=1")
	if stamp("base") != before {
		b.Error("a child has changed its parent's stamp")
	}
	if stamp("child") == before {
		b.Error("two layers have one stamp")
	}
	path, unmount := b.mounted("base", drivers.MountOptions{})
	if path != content { // who writes where nothing is mounted leaves no trace
		b.must(os.WriteFile(filepath.Join(path, "dir", "more"), make([]byte, 50_000), 0o644))
	}
	unmount()
	if path != content && stamp("base") == before {
		b.Error("the stamp tells nothing of a mount that could write")
	}
	before = stamp("base")
	staged := b.stage("", drivers.StageOptions{Content: "base"}, "new*200000")
	trash, err := staged.Replace(b.ctx, "base")
	b.must(err)
	b.must(staged.Discard())
	b.must(trash.Empty(b.ctx))
	if stamp("base") == before {
		b.Error("the stamp tells nothing of other content")
	}
	more, err := f.Footprint(b.ctx, "base")
	b.must(err)
	if more.Bytes < got.Bytes+200_000 {
		b.Errorf("%+v after 200,000 bytes more than %+v", more, got)
	}
	_, err = f.Footprint(b.ctx, "nobody")
	b.wantError(err, errdefs.ErrNotFound, "footprint of nobody")
	_, err = f.Stamp(b.ctx, "nobody")
	b.wantError(err, errdefs.ErrNotFound, "stamp of nobody")
}

func openedAgain(b *bench) {
	b.create("base", "", "f=1")
	b.create("child", "base", "g=1")
	want := b.stat("child")
	b.driver = b.open()
	b.layers("base", "child")
	got := b.stat("child")
	if got.Content != want.Content || got.MountPoint != want.MountPoint || !slices.Equal(got.Lower, want.Lower) {
		b.Errorf("another process sees %+v, this one saw %+v", got, want)
	}
	path, unmount := b.mounted("child", drivers.MountOptions{})
	b.exists(path, "f", "g")
	unmount()
}
