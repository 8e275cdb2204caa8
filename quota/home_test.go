package quota

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

const miB = 1 << 20

// dirsEach is how many directories one of our processes makes.
const dirsEach = 100

func assignMany(path, prefix string) error {
	home, err := Open(path)
	if err != nil {
		return err
	}
	for i := range dirsEach {
		dir := filepath.Join(path, fmt.Sprintf("%s-%d", prefix, i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := home.Assign(context.Background(), dir, Limits{Bytes: miB}); err != nil {
			return err
		}
	}
	return nil
}

// eachKind runs a test on each file system that has project quotas.
func eachKind(t *testing.T, test func(t *testing.T, fs *testutil.VMDisk)) {
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) { test(t, testutil.QuotaFS(t, kind)) })
	}
}

// newHome makes a home on a file system.
func newHome(t *testing.T, fs *testutil.VMDisk) *Home {
	t.Helper()
	path := filepath.Join(fs.Dir, "home")
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	home, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return home
}

// newDir makes a directory in the home with limits.
func newDir(t *testing.T, home *Home, name string, l Limits) string {
	t.Helper()
	dir := filepath.Join(home.path, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := home.Assign(t.Context(), dir, l); err != nil {
		t.Fatal(err)
	}
	return dir
}

// full is what the kernel says when a project has no more: XFS has another errno for
// projects than for users (xfs_trans_dqresv).
func full(err error) bool { return errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.ENOSPC) }

// limited runs fn without CAP_SYS_RESOURCE, which ext4 lets go beyond all limits.
// Processes in a container don't have it, and overlayfs never uses it.
func limited(t *testing.T, fn func()) {
	t.Helper()
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		data[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
		if err = errors.Join(err, unix.Capset(&header, &data[0])); err != nil {
			t.Error(err)
			return
		}
		fn()
	})
	done.Wait()
}

// write fills a file until it has size bytes or the kernel says no, and returns how many
// it has.
func write(path string, size int) (written int, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, 1<<16)
	for written < size {
		n, err := f.Write(block)
		written += n
		switch {
		case err != nil && len(block) == 4096:
			return written, err
		case err != nil:
			block = block[:4096] // there may be room for a few yet
		}
	}
	return written, nil
}

// makeFiles makes empty files until there are n or the kernel says no.
func makeFiles(dir string, n int) (made int, err error) {
	for ; made < n; made++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(made)))
		if err != nil {
			return made, err
		}
		f.Close()
	}
	return made, nil
}

func projectOf(t *testing.T, dir string) uint32 {
	t.Helper()
	f, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a, err := attributes(f)
	if err != nil {
		t.Fatal(err)
	}
	return a.project
}

func TestQuotaLimits(t *testing.T) {
	eachKind(t, func(t *testing.T, fs *testutil.VMDisk) {
		home := newHome(t, fs)
		small, beside := newDir(t, home, "small", Limits{Bytes: 50 * miB}), newDir(t, home, "beside", Limits{})
		few := newDir(t, home, "few", Limits{Inodes: 1000})

		var written, made int
		var err error
		limited(t, func() { written, err = write(filepath.Join(small, "f"), 60*miB) })
		// ext4 gives the directory itself a block.
		if !full(err) || written < 50*miB-4096 || written > 50*miB {
			t.Errorf("wrote %d bytes, then %v; want 50 MiB less a block at most, then EDQUOT", written, err)
		}
		if written, err := write(filepath.Join(beside, "f"), 60*miB); err != nil {
			t.Errorf("beside it: wrote %d bytes, then %v", written, err)
		}
		limited(t, func() { made, err = makeFiles(few, 2000) })
		if !full(err) || made != 999 {
			t.Errorf("made %d files, then %v; with the directory there may be 1000", made, err)
		}

		if err := fs.Unmount(); err != nil {
			t.Fatal(err)
		}
		if err := fs.Mount(); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			dir    string
			limits Limits
			inodes int64
		}{
			{small, Limits{Bytes: 50 * miB}, 2},
			{beside, Limits{}, 2},
			{few, Limits{Inodes: 1000}, 1000},
		} {
			l, u, err := home.Read(c.dir)
			if err != nil || l != c.limits || u.Inodes != c.inodes {
				t.Errorf("%s after a remount: limits %v, %d inodes, %v; want %v, %d", c.dir, l, u.Inodes, err, c.limits,
					c.inodes)
			}
		}
		// ext4 may need a block of its own when it writes
		if _, u, _ := home.Read(small); u.Bytes < 50*miB || u.Bytes > 50*miB+4096 {
			t.Errorf("%d bytes are counted after a remount, want 50 MiB and a block at most", u.Bytes)
		}
		limited(t, func() { _, err = os.Create(filepath.Join(few, "one more")) })
		if !full(err) {
			t.Errorf("one more file after a remount: %v, want EDQUOT", err)
		}
		if err := home.Change(few, Limits{Inodes: 1001}); err != nil {
			t.Fatal(err)
		}
		limited(t, func() { made, err = makeFiles(few, 1000) })
		if made != 1000 || err != nil {
			t.Errorf("with one more allowed: %d files, then %v", made, err)
		}
	})
}

// A project's number is free again when its last file has gone, and is then given away
// without the former limits.
func TestQuotaIDsAreReused(t *testing.T) {
	eachKind(t, func(t *testing.T, fs *testutil.VMDisk) {
		home := newHome(t, fs)
		first, second := newDir(t, home, "1", Limits{Bytes: miB, Inodes: 7}), newDir(t, home, "2", Limits{})
		was := projectOf(t, first)
		if now := projectOf(t, second); now == was {
			t.Fatalf("two directories with project %d", was)
		}
		if err := os.Remove(first); err != nil {
			t.Fatal(err)
		}
		unix.Sync() // XFS counts inodes until it has really removed them
		third := newDir(t, home, "3", Limits{})
		if now := projectOf(t, third); now != was {
			t.Errorf("the next directory has project %d, want %d again", now, was)
		}
		if l, _, err := home.Read(third); err != nil || !l.IsZero() {
			t.Errorf("limits %v, %v; want none", l, err)
		}

		if err := home.Change(second, Limits{Bytes: miB}); err != nil {
			t.Fatal(err)
		}
		if err := home.Lift(second); err != nil {
			t.Fatal(err)
		}
		if l, _, err := home.Read(second); err != nil || !l.IsZero() {
			t.Errorf("limits %v, %v after Lift", l, err)
		}
		if err := home.Lift(home.path); err != nil {
			t.Errorf("Lift without a project: %v", err)
		}
		if _, _, err := home.Read(home.path); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("Read without a project: %v", err)
		}
	})
}

// Whoever has put files into a project, wherever they lie, has it.
func TestQuotaIDsOfOthers(t *testing.T) {
	eachKind(t, func(t *testing.T, fs *testutil.VMDisk) {
		home := newHome(t, fs)
		foreign := filepath.Join(fs.Dir, "foreign")
		if err := os.Mkdir(foreign, 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := openDir(foreign)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := enter(f, home.base+rangeSize/2); err != nil {
			t.Fatal(err)
		}
		if got, want := projectOf(t, newDir(t, home, "ours", Limits{})), home.base+rangeSize/2-1; got != want {
			t.Errorf("project %d, want %d", got, want)
		}
	})
}

// An administrator may have chosen the range, with xfs_quota -x -c 'project -s', which
// makes all directories there hand it down.
func TestQuotaHomeWithAProject(t *testing.T) {
	eachKind(t, func(t *testing.T, fs *testutil.VMDisk) {
		path := filepath.Join(fs.Dir, "home")
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := openDir(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := enter(f, 100_000); err != nil {
			t.Fatal(err)
		}
		home := newHome(t, fs)
		dir := newDir(t, home, "aside", Limits{})
		if got := projectOf(t, dir); got <= 100_000 || got >= 110_000 {
			t.Errorf("project %d isn't in the range of the home, which begins at 100000", got)
		}
		other := filepath.Join(fs.Dir, "other")
		if err := os.Rename(dir, other); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(other, dir); err != nil {
			t.Errorf("rename into the home: %v", err)
		}
	})
}

func TestQuotaJoin(t *testing.T) {
	eachKind(t, func(t *testing.T, fs *testutil.VMDisk) {
		home := newHome(t, fs)
		layer, strange := newDir(t, home, "layer", Limits{Inodes: 100}), newDir(t, home, "strange", Limits{})
		aside := filepath.Join(home.path, "aside")
		for _, dir := range []string{aside, filepath.Join(strange, "new")} {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if joined, err := Join(aside, layer); err != nil || !joined {
			t.Fatal(joined, err)
		}
		if err := os.Mkdir(filepath.Join(aside, "new"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, u, err := home.Read(layer); err != nil || u.Inodes != 3 {
			t.Errorf("%d inodes, %v; want 3 in both directories together", u.Inodes, err)
		}
		if err := os.Rename(filepath.Join(aside, "new"), filepath.Join(layer, "new")); err != nil {
			t.Error(err)
		}
		if err := os.Rename(filepath.Join(strange, "new"), filepath.Join(layer, "strange")); !errors.Is(err,
			unix.EXDEV) {
			t.Errorf("rename from another project: %v, want EXDEV", err)
		}
		file := filepath.Join(home.path, "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if joined, err := Join(file, layer); err != nil || !joined {
			t.Error(joined, err)
		}
		if err := os.Rename(file, filepath.Join(layer, "file")); err != nil {
			t.Error(err)
		}
		if joined, err := Join(aside, home.path); err != nil || joined {
			t.Errorf("Join with a directory that hands no project down: %v, %v", joined, err)
		}
	})
}

func TestQuotaFourProcesses(t *testing.T) {
	eachKind(t, func(t *testing.T, fs *testutil.VMDisk) {
		home := newHome(t, fs)
		var all sync.WaitGroup
		for n := range 4 {
			cmd := exec.Command("/proc/self/exe", home.path)
			cmd.Env = append(os.Environ(), fmt.Sprintf("QUOTA_TEST_ASSIGN=%d", n))
			all.Go(func() {
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("process %d: %v: %s", n, err, out)
				}
			})
		}
		all.Wait()
		dirs, err := filepath.Glob(filepath.Join(home.path, "*-*"))
		if err != nil {
			t.Fatal(err)
		}
		var projects []uint32
		for _, dir := range dirs {
			projects = append(projects, projectOf(t, dir))
			if l, _, err := home.Read(dir); err != nil || l.Bytes != miB {
				t.Errorf("%s: limits %v, %v", dir, l, err)
			}
		}
		slices.Sort(projects)
		if got := len(slices.Compact(projects)); got != 4*dirsEach {
			t.Errorf("%d different projects of %d directories, want %d", got, len(dirs), 4*dirsEach)
		}
	})
}

// Before Linux 5.14 quotas are asked for by device node, which is where
// containers/storage has it.
func TestQuotaByDeviceNode(t *testing.T) {
	eachKind(t, func(t *testing.T, fs *testutil.VMDisk) {
		byFD := newHome(t, fs)
		node := filepath.Join(byFD.path, DeviceName)
		if _, err := os.Lstat(node); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a node that isn't needed: %v", err)
		}
		// of the disk the store was on before
		if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(250, 250))); err != nil {
			t.Fatal(err)
		}
		home, err := open(byFD.path, true)
		if err != nil {
			t.Fatal(err)
		}
		dir := newDir(t, home, "dir", Limits{Bytes: 10 * miB})
		if l, u, err := byFD.Read(dir); err != nil || l.Bytes != 10*miB || u.Inodes != 1 {
			t.Errorf("limits %v, %d inodes, %v", l, u.Inodes, err)
		}
		var written int
		limited(t, func() { written, err = write(filepath.Join(dir, "f"), 20*miB) })
		if !full(err) || written > 10*miB {
			t.Errorf("wrote %d bytes: %v", written, err)
		}
		left, err := filepath.Glob(filepath.Join(home.path, "*.tmp"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

func TestQuotaIsOnlyCounted(t *testing.T) {
	for _, c := range []struct{ kind, options, want string }{
		{"xfs", "pqnoenforce", "prjquota instead of pqnoenforce"},
		{"ext4", "", "mount this ext4 with the option prjquota"},
	} {
		t.Run(c.kind, func(t *testing.T) { unsupported(t, testutil.MountVMDisk(t, c.kind, c.options).Dir, c.want) })
	}
}
