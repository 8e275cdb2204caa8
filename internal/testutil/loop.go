package testutil

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// LoopFS makes a fresh file system of a kind ("ext4" with a journal, "xfs", "btrfs") and
// size on a loop device, mounts it and returns its mount point; mkfs are further
// arguments of mkfs. When the test ends,
// however it ends, the file system is unmounted with whatever is still mounted below it,
// and the device and its backing file are gone.
//
// Tests that write much use it for speed too: an ext4 without a journal, as some virtual
// machines have for their root, takes up to 25 times as long to create files where many
// were just deleted.
func LoopFS(t testing.TB, kind string, sizeMiB int, mkfs ...string) string {
	t.Helper()
	return NewLoop(t, kind, sizeMiB, mkfs...).Dir
}

// NewLoop is LoopFS for tests that also unmount, remount or cut the power of what they
// got.
func NewLoop(t testing.TB, kind string, sizeMiB int, mkfs ...string) *Loop {
	t.Helper()
	Root(t)
	if !OnHost() {
		t.Skip("needs the host's root: a user namespace has no loop devices")
	}
	Tool(t, "mkfs."+kind, mkfsPackage[kind])
	loop, err := OpenLoop(t.TempDir(), kind, sizeMiB, mkfs...)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) {
		t.Skipf("needs loop devices and %s in the kernel: %v", kind, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := loop.Close(); err != nil {
			t.Error(err)
		}
	})
	return loop
}

var (
	mkfsPackage = map[string]string{"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}
	mkfsFlags   = map[string][]string{
		"ext4": {"-q", "-F", "-b", "4096", "-O", "has_journal", "-E",
			"lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-m", "0"},
		"xfs":   {"-q", "-f", "-K"},
		"btrfs": {"-q", "-f", "-K"},
	}
)

// Loop is a file system of its own on a loop device. Its device detaches by itself once
// the file system is unmounted and the Loop closed or its process gone. Not safe for
// concurrent use.
type Loop struct {
	Dir    string // where it is mounted
	Device string // such as /dev/loop3
	kind   string
	flags  []string // of mkfs
	dev    *os.File
}

// OpenLoop makes and mounts a file system below dir, for programs that have no
// testing.TB.
func OpenLoop(dir, kind string, sizeMiB int, flags ...string) (_ *Loop, err error) {
	l := &Loop{Dir: filepath.Join(dir, "fs"), kind: kind, flags: append(flags, mkfsFlags[kind]...)}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if err := os.Mkdir(l.Dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(dir, "fs.img")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// The device keeps the file open: unlinked on the way out, it can't outlive us
	// whatever happens.
	defer os.Remove(file.Name())
	if err := file.Truncate(int64(sizeMiB) << 20); err != nil {
		return nil, err
	}
	mkfs, err := lookTool("mkfs." + kind)
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command(mkfs, append(l.flags, file.Name())...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mkfs.%s: %w: %s", kind, err, out)
	}
	if err := l.attach(file); err != nil {
		return nil, err
	}
	if err := l.Mount(); err != nil {
		return nil, err
	}
	return l, nil
}

// attach finds a free loop device for the backing file. Another process may take the
// device we were told is free before we configure it, hence the rounds.
func (l *Loop) attach(backing *os.File) error {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	for range 64 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return fmt.Errorf("find a free loop device: %w", err)
		}
		l.Device = fmt.Sprintf("/dev/loop%d", n)
		l.dev, err = os.OpenFile(l.Device, os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			// A container's /dev is no devtmpfs: the node of a new device does not appear
			// by itself.
			if err = unix.Mknod(l.Device, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(n)))); err == nil {
				l.dev, err = os.OpenFile(l.Device, os.O_RDWR, 0)
			}
		}
		if err != nil {
			return fmt.Errorf("open %s: %w", l.Device, err)
		}
		config := unix.LoopConfig{
			Fd:   uint32(backing.Fd()),
			Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO},
		}
		err = unix.IoctlLoopConfigure(int(l.dev.Fd()), &config)
		if errors.Is(err, unix.EINVAL) {
			// Some backing file systems refuse direct I/O.
			config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
			err = unix.IoctlLoopConfigure(int(l.dev.Fd()), &config)
		}
		if err == nil {
			return nil
		}
		l.dev.Close()
		l.dev = nil
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("attach %s to %s: %w", l.Device, backing.Name(), err)
		}
	}
	return fmt.Errorf("attach a loop device to %s: all were taken from under us", backing.Name())
}

// Format makes the file system anew and mounts it. What it held is gone, without being
// written first.
func (l *Loop) Format() error {
	if l.kind == "ext4" { // XFS has the same call, Btrfs has not
		if err := l.Cut(); err != nil {
			return err
		}
	}
	if err := l.Unmount(); err != nil {
		return err
	}
	mkfs, err := lookTool("mkfs." + l.kind)
	if err != nil {
		return err
	}
	if out, err := exec.Command(mkfs, append(l.flags, l.Device)...).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.%s: %w: %s", l.kind, err, out)
	}
	return l.Mount()
}

// Mount mounts the file system again, after Unmount or Cut; a journal is replayed then.
func (l *Loop) Mount() error {
	if err := unix.Mount(l.Device, l.Dir, l.kind, unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", l.kind, l.Dir, err)
	}
	// A file system root is 0755 and root's; tests that go on as an ordinary user need a
	// place too.
	return os.Chmod(l.Dir, 0o777|os.ModeSticky)
}

// Cut is a power cut: from this instant nothing reaches the disk, not even the journal's
// pending part, and all access fails with EIO (the shutdown ioctl of ext4 and XFS, with
// their flag for "do not flush the log"). What follows is Unmount, once nobody has a file
// open here any more, and Mount. It is an error when the file system isn't mounted: the
// call would put an end to the one beneath, which is the host's.
func (l *Loop) Cut() error {
	const (
		goingDown = 0x8004587d // _IOR('X', 125, uint32): EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are the same
		noFlush   = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH, XFS_FSOP_GOING_FLAGS_NOLOGFLUSH
	)
	dir, err := os.Open(l.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	var at, device unix.Stat_t
	if err := errors.Join(unix.Fstat(int(dir.Fd()), &at), unix.Stat(l.Device, &device)); err != nil {
		return fmt.Errorf("cut the power of %s: %w", l.Dir, err)
	}
	if at.Dev != device.Rdev { // those of ext4 and XFS are the device's number
		return fmt.Errorf("cut the power of %s: %s isn't mounted there", l.Dir, l.Device)
	}
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), goingDown, noFlush); err != nil {
		return fmt.Errorf("cut the power of %s: %w", l.Dir, err)
	}
	return nil
}

// Unmount unmounts the file system for good, with everything mounted below it. It is an
// error when a process still has a file open there after five seconds: a lazy unmount
// would leave the old super block alive, and the next mount would get that instead of
// what is on the disk.
func (l *Loop) Unmount() error {
	if err := UnmountBelow(l.Dir); err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		err := unix.Unmount(l.Dir, unix.UMOUNT_NOFOLLOW)
		if err == nil || errors.Is(err, unix.EINVAL) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("unmount %s: %w", l.Dir, err)
		}
	}
}

// Close unmounts lazily and lets go of the device, which clears itself when its last user
// is gone.
func (l *Loop) Close() error {
	err := UnmountBelow(l.Dir)
	if e := unix.Unmount(l.Dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); e != nil && !errors.Is(e, unix.EINVAL) &&
		!errors.Is(e, unix.ENOENT) {
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", l.Dir, e))
	}
	if l.dev != nil {
		l.dev.Close()
	}
	return err
}
