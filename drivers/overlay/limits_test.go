package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay"
	"github.com/shalestore/shale/drivers/overlay/examine"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
	"github.com/shalestore/shale/quota"
	"golang.org/x/sys/unix"
)

const miB = 1 << 20

// limitedVariable tells a child of the test binary in which root to make limited layers.
const limitedVariable = "SHALE_OVERLAY_LIMITED"

const limitedEach = 100

// makeLimited is what TestMain does in that child.
func makeLimited(root string) {
	d, err := overlay.Open(context.Background(), overlay.Options{Place: drivers.Place{Root: root}})
	for n := 0; err == nil && n < limitedEach; n++ {
		err = commitLimited(d, fmt.Sprintf("%d-%d", os.Getpid(), n), "base", limits(miB, 0))
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func limits(bytes, inodes uint64) *drivers.Limits {
	return &drivers.Limits{Bytes: &bytes, Inodes: &inodes}
}

func commitLimited(d *overlay.Driver, id, parent string, limits *drivers.Limits) error {
	s, err := d.Stage(context.Background(), parent, drivers.StageOptions{Writable: true, Limits: limits})
	if err != nil {
		return err
	}
	return errors.Join(s.Commit(context.Background(), id), s.Discard())
}

// eachQuotaFS runs a test on each file system that has project quotas.
func eachQuotaFS(t *testing.T, test func(t *testing.T, disk *testutil.VMDisk)) {
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) { test(t, testutil.QuotaFS(t, kind)) })
	}
}

// isFull tells whether an error is that of a limit: XFS has another errno for projects
// than for users.
func isFull(err error) bool { return errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.ENOSPC) }

// writeMuch writes a file until the kernel says no, or until it has size bytes.
func writeMuch(path string, size int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<16)
	for written := 0; written < size; {
		n, err := f.Write(block)
		written += n
		switch {
		case err != nil && len(block) == 4096:
			return err
		case err != nil:
			block = block[:4096] // there may be room for a few yet
		}
	}
	return nil
}

func makeMany(dir string, n int) error {
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Limits that the layer's own files are beyond, and those that a file system can't count
// to, are refused, and nothing of the layer stays.
func TestQuotaOfNoUse(t *testing.T) {
	eachQuotaFS(t, func(t *testing.T, disk *testutil.VMDisk) {
		at := drivers.Place{Root: filepath.Join(disk.Dir, "root"), RunRoot: t.TempDir()}
		d := open(t, at).(*overlay.Driver)
		for _, l := range []*drivers.Limits{limits(1, 0), limits(4096, 0), limits(0, 1), limits(0, 5),
			limits(1<<62, 1<<63)} {
			err := commitLimited(d, "layer", "", l)
			if *l.Bytes > miB && err == nil {
				continue // XFS counts that far
			}
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("%d bytes, %d inodes: %v", *l.Bytes, *l.Inodes, err)
			}
			if left, err := os.ReadDir(filepath.Join(at.Root, "overlay/tempdirs")); err != nil || len(left) > 0 {
				t.Errorf("it left %v (%v)", left, err)
			}
		}
		must(t, commitLimited(d, "layer", "", limits(miB, 30)))
	})
}

// Limits hold for whoever writes through the mount, root included, and for nobody beside.
func TestQuotaOfMountedLayers(t *testing.T) {
	eachQuotaFS(t, func(t *testing.T, disk *testutil.VMDisk) {
		at := drivers.Place{Root: filepath.Join(disk.Dir, "root"), RunRoot: t.TempDir()}
		d := open(t, at).(*overlay.Driver)
		must(t, create(t.Context(), d, "base", ""))
		for id, l := range map[string]*drivers.Limits{"small": limits(50*miB, 0), "few": limits(0, 1000),
			"beside": {}} {
			must(t, commitLimited(d, id, "base", l))
		}
		small, few, beside := perform(t, d, "small", drivers.MountOptions{}),
			perform(t, d, "few", drivers.MountOptions{}), perform(t, d, "beside", drivers.MountOptions{})
		if err := writeMuch(filepath.Join(small, "f"), 60*miB); !isFull(err) {
			t.Errorf("60 MiB where 50 may be: %v", err)
		}
		if err := makeMany(few, 1100); !isFull(err) {
			t.Errorf("1,100 files where 1,000 inodes may be: %v", err)
		}
		must(t, writeMuch(filepath.Join(beside, "f"), 60*miB))
		must(t, makeMany(beside, 1100))
		var st unix.Statfs_t
		must(t, unix.Statfs(small, &st))
		if got := st.Blocks * uint64(st.Bsize); got != 50*miB {
			t.Errorf("df shows %d bytes, want 50 MiB", got)
		}
		for id, target := range map[string]string{"small": small, "few": few, "beside": beside} {
			must(t, mount.Unmount(target))
			must(t, d.Unmounted(t.Context(), id)) // which makes a directory, full or not
		}

		must(t, disk.Unmount())
		must(t, disk.Mount())
		d = open(t, at).(*overlay.Driver)
		for id, want := range map[string]quota.Limits{"small": {Bytes: 50 * miB}, "few": {Inodes: 1000}, "beside": {}} {
			got, usage, err := d.Quota(t.Context(), id)
			if err != nil || got != want {
				t.Errorf("%s: limits %v, %v; want %v", id, got, err, want)
			}
			// The block that holds ext4's extents comes with the writing back, when it is
			// too late to refuse it.
			if want.Bytes > 0 && (usage.Bytes > 50*miB+4096 || usage.Bytes < 50*miB-4096) {
				t.Errorf("%s: %d bytes, want 50 MiB but for a block", id, usage.Bytes)
			}
			if want.Inodes > 0 && usage.Inodes != 1000 {
				t.Errorf("%s: %d inodes, want 1000", id, usage.Inodes)
			}
		}
		if _, _, err := d.Quota(t.Context(), "base"); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("an image's layer: %v", err)
		}
		// Without room for its own directories overlayfs mounts a layer read-only, so
		// there must be some first.
		info, err := d.Stat(t.Context(), "small")
		must(t, err)
		must(t, os.Truncate(filepath.Join(info.Content, "f"), 49*miB))
		again := perform(t, d, "small", drivers.MountOptions{})
		if err := writeMuch(filepath.Join(again, "g"), 2*miB); !isFull(err) {
			t.Errorf("another 2 MiB after a remount: %v", err)
		}
		must(t, os.Remove(filepath.Join(again, "f")))
		unix.Sync()
		must(t, writeMuch(filepath.Join(again, "g"), 2*miB))
	})
}

func TestQuotaOfFourProcesses(t *testing.T) {
	eachQuotaFS(t, func(t *testing.T, disk *testutil.VMDisk) {
		root := filepath.Join(disk.Dir, "root")
		d := open(t, drivers.Place{Root: root}).(*overlay.Driver)
		must(t, create(t.Context(), d, "base", ""))
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				cmd := exec.Command("/proc/self/exe")
				cmd.Env = append(os.Environ(), limitedVariable+"="+root)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
		all.Wait()
		ids, err := d.List(t.Context())
		must(t, err)
		// What one layer has more than the others have would show in another's project
		// too.
		sizes := map[int64]int{}
		for _, id := range ids {
			if id == "base" {
				continue
			}
			l, usage, err := d.Quota(t.Context(), id)
			if err != nil || l != (quota.Limits{Bytes: miB}) {
				t.Errorf("%s: limits %v, %v", id, l, err)
			}
			sizes[usage.Inodes]++
		}
		if len(ids) != 1+4*limitedEach || len(sizes) != 1 {
			t.Errorf(
				"%d layers, which count so many inodes each: %v; want 401, and one number for all that are limited",
				len(ids), sizes)
		}
	})
}

// What is changed about a limited layer counts towards its limits, and the limits stay.
func TestQuotaOfReplacedContent(t *testing.T) {
	eachQuotaFS(t, func(t *testing.T, disk *testutil.VMDisk) {
		d := open(t, drivers.Place{Root: filepath.Join(disk.Dir, "root"), RunRoot: t.TempDir()}).(*overlay.Driver)
		must(t, create(t.Context(), d, "base", ""))
		must(t, commitLimited(d, "limited", "base", limits(10*miB, 100)))
		check := func(after string) {
			t.Helper()
			l, usage, err := d.Quota(t.Context(), "limited")
			if want := (quota.Limits{Bytes: 10 * miB, Inodes: 100}); err != nil || l != want {
				t.Errorf("%s: limits %v, %v", after, l, err)
			}
			if usage.Inodes < 6 || usage.Inodes > 40 {
				t.Errorf("%s: %d inodes", after, usage.Inodes)
			}
			info, err := d.Stat(t.Context(), "limited")
			must(t, err)
			if err := makeMany(info.Content, 3); err != nil {
				t.Errorf("%s: %v", after, err)
			}
		}
		check("at first")

		s, err := d.Stage(t.Context(), "base", drivers.StageOptions{Content: "limited", Replaces: "limited"})
		must(t, err)
		must(t, os.WriteFile(filepath.Join(s.Content(), "new"), nil, 0o600))
		trash, err := s.Replace(t.Context(), "limited")
		must(t, err)
		must(t, trash.Empty(t.Context()))
		must(t, s.Discard())
		check("content replaced")

		info, err := d.Stat(t.Context(), "limited")
		must(t, err)
		dir := filepath.Dir(info.Content)
		for _, name := range []string{"lower", "link"} {
			must(t, os.Remove(filepath.Join(dir, name)))
		}
		must(t, os.RemoveAll(info.Work))
		must(t, examine.Of(d).Rewrite(t.Context(), "limited", []string{"base"}))
		check("rewritten")

		s, err = d.Stage(t.Context(), "base", drivers.StageOptions{Writable: true, Content: "limited",
			Replaces: "limited"})
		must(t, err)
		shifted := idtools.Mapping{UIDs: []idtools.Map{{HostID: 1000, Size: 65536}},
			GIDs: []idtools.Map{{HostID: 1000, Size: 65536}}}
		must(t, s.Remap(t.Context(), idtools.Mapping{}, shifted))
		must(t, s.Commit(t.Context(), "limited"))
		must(t, s.Discard())
		check("owners changed")
		perform(t, d, "limited", drivers.MountOptions{})
	})
}

// A deleted layer's project, and that of a layer that never came to be, go to the next
// one without their limits.
func TestQuotaOfDeletedLayers(t *testing.T) {
	eachQuotaFS(t, func(t *testing.T, disk *testutil.VMDisk) {
		home := filepath.Join(disk.Dir, "root", "overlay")
		d := open(t, drivers.Place{Root: filepath.Dir(home)}).(*overlay.Driver)
		must(t, commitLimited(d, "limited", "", limits(miB, 7)))
		trash, err := d.Delete(t.Context(), "limited")
		must(t, err)
		left, err := filepath.Glob(filepath.Join(home, "tempdirs", "temp-dir-*"))
		if err != nil || len(left) != 1 {
			t.Fatal(left, err)
		}
		q, err := quota.Open(home)
		must(t, err)
		if l, _, err := q.Read(left[0]); err != nil || !l.IsZero() {
			t.Errorf("limits of a deleted layer: %v, %v", l, err)
		}
		must(t, trash.Empty(t.Context()))

		s, err := d.Stage(t.Context(), "", drivers.StageOptions{Writable: true, Limits: limits(miB, 7)})
		must(t, err)
		must(t, s.Discard())
		unix.Sync() // XFS counts inodes until it has really removed them
		must(t, commitLimited(d, "next", "", &drivers.Limits{}))
		if l, usage, err := d.Quota(t.Context(), "next"); err != nil || !l.IsZero() || usage.Inodes > 10 {
			t.Errorf("the next layer: limits %v, %d inodes, %v", l, usage.Inodes, err)
		}
	})
}

// Without quotas limits are refused before anything is made.
func TestLimitsWithoutQuotas(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	refused := func(err error) {
		t.Helper()
		if !errors.Is(err, errdefs.ErrUnsupported) || !strings.Contains(err.Error(), "XFS and ext4 do") {
			t.Errorf("%v, want a hint at file systems that have quotas", err)
		}
	}
	at := drivers.Place{Root: filepath.Join(dir, "root")}
	d := open(t, at).(*overlay.Driver)
	refused(d.Limitable(t.Context()))
	before := testutil.Snapshot(t, dir)
	// Settings that can't be had stop what needs them and nothing else.
	limited, err := overlay.Open(t.Context(), overlay.Options{Place: at, Limits: quota.Limits{Bytes: miB}})
	must(t, err)
	if ids, err := limited.List(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("layers %v (%v)", ids, err)
	}
	refused(commitLimited(limited, "limited", "", &drivers.Limits{}))
	refused(commitLimited(d, "limited", "", limits(0, 1000)))
	testutil.SameTree(t, before, testutil.Snapshot(t, dir))
	must(t, commitLimited(d, "unlimited", "", limits(0, 0)))
	_, _, err = d.Quota(t.Context(), "unlimited")
	refused(err)
	one := uint64(1)
	if _, err := d.Stage(t.Context(), "", drivers.StageOptions{Limits: &drivers.Limits{Bytes: &one}}); !errors.Is(err,
		errdefs.ErrInvalid) {
		t.Errorf("limits of an image's layer: %v", err)
	}
	if ids, err := d.List(t.Context()); err != nil || !slices.Equal(ids, []string{"unlimited"}) {
		t.Errorf("layers %v (%v)", ids, err)
	}
}

// fillUp takes what blocks are free, without writing into them.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	for range 2 { // what is delayed may need less in the end than was set aside for it
		unix.Sync()
		end, err := f.Seek(0, io.SeekEnd)
		must(t, err)
		for size := int64(1 << 30); size >= 4096; size /= 2 {
			for unix.Fallocate(int(f.Fd()), 0, end, size) == nil {
				end += size
			}
		}
	}
}

// On a disk without a free block a layer with limits, or one that is only counted, can be
// unmounted and deleted, and its project's limits go with it.
func TestFullDiskWithQuotas(t *testing.T) {
	eachQuotaFS(t, func(t *testing.T, disk *testutil.VMDisk) {
		root := filepath.Join(disk.Dir, "root")
		d := open(t, drivers.Place{Root: root}).(*overlay.Driver)
		must(t, commitLimited(d, "limited", "", limits(4*miB, 100)))
		must(t, commitLimited(d, "counted", "", &drivers.Limits{}))
		for _, id := range []string{"limited", "counted"} {
			target := perform(t, d, id, drivers.MountOptions{})
			must(t, os.WriteFile(filepath.Join(target, "f"), []byte("content"), 0o600))
		}
		filler := filepath.Join(disk.Dir, "filler")
		defer os.Remove(filler)
		for _, id := range []string{"limited", "counted"} {
			fillUp(t, filler)
			info, err := d.Stat(t.Context(), id)
			must(t, err)
			must(t, mount.Unmount(info.MountPoint))
			must(t, d.Unmounted(t.Context(), id))
			trash, err := d.Delete(t.Context(), id)
			must(t, err)
			must(t, trash.Empty(t.Context()))
		}
		if ids, err := d.List(t.Context()); err != nil || len(ids) > 0 {
			t.Errorf("layers %v (%v)", ids, err)
		}
		must(t, os.Remove(filler))
		unix.Sync()
		must(t, commitLimited(d, "next", "", &drivers.Limits{}))
		if l, _, err := d.Quota(t.Context(), "next"); err != nil || !l.IsZero() {
			t.Errorf("the next layer has limits %v (%v)", l, err)
		}
	})
}
