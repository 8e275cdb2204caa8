package quota

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// dqblk is struct if_dqblk of linux/quota.h: what a file system keeps of a project.
type dqblk struct {
	blockHard, blockSoft uint64 // in blocks of blockSize
	space                uint64 // in bytes
	inodeHard, inodeSoft uint64
	inodes               uint64
	blockTime, inodeTime uint64
	valid                uint32
	_                    uint32
}

// status is as much of struct fs_quota_statv of linux/dqblk_xfs.h as anybody needs here;
// the rest makes up its size.
type status struct {
	version uint8
	_       uint8
	flags   uint16
	_       [196]byte
}

// The commands are the general ones of quotactl(2): XFS takes them as ext4 does (the
// kernel translates them, in fs/quota/quota.c), and so its own aren't needed.
const (
	getQuota = 0x800007   // Q_GETQUOTA
	setQuota = 0x800008   // Q_SETQUOTA
	getState = 'X'<<8 | 8 // Q_XGETQSTATV, which all file systems with quotas answer

	projects    = 2      // PRJQUOTA
	counted     = 1 << 4 // FS_QUOTA_PDQ_ACCT
	enforced    = 1 << 5 // FS_QUOTA_PDQ_ENFD
	blockLimits = 1 << 0 // QIF_BLIMITS
	inodeLimits = 1 << 2 // QIF_ILIMITS

	blockSize = 1024 // QIF_DQBLKSIZE, whatever the file system's own blocks are
)

// DeviceName is the device node that quotactl(2) takes where the kernel has no
// quotactl_fd(2) (before Linux 5.14): made in the home, as containers/storage has it.
const DeviceName = "backingFsBlockDev"

// control makes quota calls about the file system that dir lies on.
type control struct {
	dir *os.File
	// byNode does as if the kernel had no quotactl_fd(2).
	byNode bool
}

func (c control) call(command int, project uint32, arg unsafe.Pointer) error {
	command = command<<8 | projects
	if c.byNode || !hasDescriptorCall() {
		return c.callByNode(command, project, arg)
	}
	return errnoOf(unix.Syscall6(unix.SYS_QUOTACTL_FD, c.dir.Fd(), uintptr(command), uintptr(project), uintptr(arg), 0,
		0))
}

// hasDescriptorCall reports whether there is a quotactl_fd(2), which looks at the
// descriptor first.
func hasDescriptorCall() bool {
	_, _, errno := unix.RawSyscall6(unix.SYS_QUOTACTL_FD, ^uintptr(0), getState<<8|projects, 0, 0, 0, 0)
	return errno != unix.ENOSYS
}

func (c control) callByNode(command int, project uint32, arg unsafe.Pointer) error {
	node, err := c.node()
	if err != nil {
		return err
	}
	name, err := unix.BytePtrFromString(node)
	if err != nil {
		return err
	}
	return errnoOf(unix.Syscall6(unix.SYS_QUOTACTL, uintptr(command), uintptr(unsafe.Pointer(name)), uintptr(project),
		uintptr(arg), 0, 0))
}

func errnoOf(_, _ uintptr, errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// node returns the path of a device node for the file system. A store that was copied to
// another device has one of the wrong number.
func (c control) node() (string, error) {
	var home, st unix.Stat_t
	if err := unix.Fstat(int(c.dir.Fd()), &home); err != nil {
		return "", &os.PathError{Op: "stat", Path: c.dir.Name(), Err: err}
	}
	path := filepath.Join(c.dir.Name(), DeviceName)
	if err := unix.Lstat(path, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == home.Dev {
		return path, nil
	}
	// Several processes may be at it: each makes a node of its own, and the last to
	// rename wins, with the same number.
	made := fmt.Sprintf("%s.%d.tmp", path, os.Getpid())
	if err := unix.Mknod(made, unix.S_IFBLK|0o600, int(home.Dev)); err != nil && err != unix.EEXIST {
		return "", &os.PathError{Op: "mknod", Path: made, Err: err}
	}
	if err := os.Rename(made, path); err != nil {
		return "", errors.Join(err, os.Remove(made))
	}
	return path, nil
}

// get reads what the file system keeps of a project. One that it has never heard of is
// all zeros.
func (c control) get(project uint32) (dqblk, error) {
	var d dqblk
	err := c.call(getQuota, project, unsafe.Pointer(&d))
	if errors.Is(err, unix.ENOENT) {
		return dqblk{}, nil // XFS
	}
	if err != nil {
		return dqblk{}, fmt.Errorf("read the quota of project %d: %w", project, err)
	}
	return d, nil
}

// set replaces a project's limits. The soft ones are the same as the hard ones, as
// containers/storage has them, so that no grace period ever begins; XFS shows the soft
// one as the size of the file system to whoever looks from beneath (statfs(2)).
func (c control) set(project uint32, l Limits) error {
	blocks := l.Bytes / blockSize
	if l.Bytes%blockSize != 0 {
		blocks++ // down to 0 would be no limit
	}
	d := dqblk{blockHard: blocks, blockSoft: blocks, inodeHard: l.Inodes, inodeSoft: l.Inodes, valid: blockLimits |
		inodeLimits}
	err := c.call(setQuota, project, unsafe.Pointer(&d))
	if errors.Is(err, unix.ERANGE) {
		err = fmt.Errorf("%w: this file system doesn't count that far: %w", errdefs.ErrInvalid, err)
	}
	if err != nil {
		return fmt.Errorf("set the quota of project %d to %v: %w", project, l, err)
	}
	return nil
}

// state reports whether the file system counts what projects take, and whether it keeps
// them to their limits.
func (c control) state() (counts, enforces bool, err error) {
	s := status{version: 1}
	err = c.call(getState, 0, unsafe.Pointer(&s))
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EOPNOTSUPP) ||
		errors.Is(err, unix.ENOTBLK) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("ask for the state of quotas: %w", err)
	}
	return s.flags&counted != 0, s.flags&enforced != 0, nil
}
