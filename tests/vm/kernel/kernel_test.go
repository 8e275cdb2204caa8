// Package kernel tests that the virtual machine has what its tests are promised.
package kernel

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// A file that belongs to a limited project gets EDQUOT where its limit is.
func TestQuotaOfAProjectHolds(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			disk := testutil.QuotaFS(t, kind)
			const project, limit = 4711, 1 << 20
			dir := filepath.Join(disk.Dir, "limited")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			setProject(t, dir, project)
			setLimit(t, disk, project, limit)

			withoutResourceCapability(t)
			n, err := writeBlocks(filepath.Join(dir, "file"), 2*limit)
			if !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.ENOSPC) { // XFS says ENOSPC where a project is full
				t.Errorf("twice the limit written: %v", err)
			}
			if n > limit || n < limit-8<<10 { // ext4 counts blocks of its own structures
				t.Errorf("%d bytes fit, the limit is %d", n, limit)
			}
			if _, err := writeBlocks(filepath.Join(disk.Dir, "beside"), 2*limit); err != nil {
				t.Errorf("beside the limited directory: %v", err)
			}
		})
	}
}

// withoutResourceCapability lets the rest of the test obey limits: but for XFS, quotas
// don't hold for CAP_SYS_RESOURCE. Overlayfs drops it by itself.
func withoutResourceCapability(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	sets[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
	if err := unix.Capset(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
}

// writeBlocks writes a file of n bytes block by block, and returns how many there are.
func writeBlocks(path string, n int) (written int, err error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for block := make([]byte, 4096); written < n && err == nil; {
		var m int
		m, err = file.Write(block)
		written += m
	}
	return written, errors.Join(err, file.Sync())
}

// setProject is FS_IOC_FSSETXATTR (linux/fs.h): everything made in the directory from now
// on belongs to the project.
func setProject(t *testing.T, dir string, project uint32) {
	t.Helper()
	const (
		fsSetXattr  = 0x401c5820
		projInherit = 0x200
	)
	file, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	attr := struct {
		flags, extsize, nextents, projid, cowextsize uint32
		_                                            [8]byte
	}{flags: projInherit, projid: project}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), fsSetXattr, uintptr(unsafe.Pointer(&attr))); errno != 0 {
		t.Fatalf("set the project of %s: %v", dir, errno)
	}
}

// setLimit is quotactl_fd(Q_SETQUOTA) (linux/quota.h), which XFS understands too.
func setLimit(t *testing.T, disk *testutil.VMDisk, project uint32, bytes uint64) {
	t.Helper()
	const (
		setQuota   = 0x800008
		prjQuota   = 2
		blockLimit = 1 // QIF_BLIMITS
	)
	file, err := os.Open(disk.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	quota := struct {
		hardKiB, softKiB, used       uint64
		inodeHard, inodeSoft, inodes uint64
		blockTime, inodeTime         uint64
		valid                        uint32
	}{hardKiB: bytes >> 10, valid: blockLimit}
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, file.Fd(), setQuota<<8|prjQuota, uintptr(project),
		uintptr(unsafe.Pointer(&quota)), 0, 0)
	if errno != 0 {
		t.Fatalf("limit project %d: %v", project, errno)
	}
}

// A file with fs-verity can't be written any more.
func TestVerityOfAFile(t *testing.T) {
	disk := testutil.QuotaFS(t, "ext4")
	path := filepath.Join(disk.Dir, "file")
	if err := os.WriteFile(path, bytes.Repeat([]byte("shale"), 5000), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const enableVerity = 0x40806685
	arg := unix.FsverityEnableArg{Version: 1, Hash_algorithm: unix.FS_VERITY_HASH_ALG_SHA256, Block_size: 4096}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), enableVerity, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		t.Fatalf("enable fs-verity: %v", errno)
	}
	if _, err := os.OpenFile(path, os.O_WRONLY, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("open for writing: %v, want EPERM", err)
	}
}

func TestSELinuxIsThere(t *testing.T) {
	testutil.VM(t)
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/selinux", &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != unix.SELINUX_MAGIC {
		t.Errorf("file system magic %#x, want %#x", st.Type, unix.SELINUX_MAGIC)
	}
}

func TestBtrfsInVM(t *testing.T) {
	disk := testutil.MountVMDisk(t, "btrfs", "")
	if err := os.WriteFile(filepath.Join(disk.Dir, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
}
