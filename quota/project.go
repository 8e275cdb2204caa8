package quota

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fsxattr is struct fsxattr of linux/fs.h: the attributes that file systems share since
// Linux 4.5, and XFS had before.
type fsxattr struct {
	flags      uint32
	extentSize uint32
	extents    uint32
	project    uint32
	cowSize    uint32
	_          [8]byte
}

const (
	// FS_IOC_FSGETXATTR is _IOR('X', 31, struct fsxattr) and FS_IOC_FSSETXATTR _IOW('X',
	// 32, struct fsxattr). How _IOR and _IOW look depends on the architecture.
	getXattr = unix.FS_IOC_GETFLAGS&directionBits | uint(unsafe.Sizeof(fsxattr{}))<<16 | 'X'<<8 | 31
	setXattr = unix.FS_IOC_SETFLAGS&directionBits | uint(unsafe.Sizeof(fsxattr{}))<<16 | 'X'<<8 | 32

	directionBits = 0xc0000000

	projectInherit = 0x200 // FS_XFLAG_PROJINHERIT
)

// openDir opens a directory, and nothing else.
func openDir(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// attributes reads those of an open file or directory. A file system that has none has no
// projects.
func attributes(f *os.File) (a fsxattr, err error) {
	err = ioctl(f, getXattr, &a)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
		return fsxattr{}, nil
	}
	if err != nil {
		return fsxattr{}, fmt.Errorf("read the project of %s: %w", f.Name(), err)
	}
	return a, nil
}

// enter puts an open file or directory into a project, which a directory hands down from
// then on.
func enter(f *os.File, project uint32) error {
	a, err := attributes(f)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	a.project = project
	if info.IsDir() {
		a.flags |= projectInherit
	}
	if err := ioctl(f, setXattr, &a); err != nil {
		return fmt.Errorf("put %s into project %d: %w", f.Name(), project, err)
	}
	return nil
}

// StopInheritance keeps a directory, if there is one, from handing its project down. Into
// one that does nothing of another project can be renamed (EXDEV).
func StopInheritance(dir string) error {
	f, err := openDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	a, err := attributes(f)
	if err != nil || a.flags&projectInherit == 0 {
		return err
	}
	a.flags &^= projectInherit
	if err := ioctl(f, setXattr, &a); err != nil {
		return fmt.Errorf("keep %s from handing its project down: %w", dir, err)
	}
	return nil
}

// Join puts a file or an empty directory into the project that the directory like, on its
// file system, hands down. That makes it possible to rename it, and what is then made in
// it, into that directory, which is EXDEV otherwise, and what is in both counts towards
// the same limits. These don't keep root from joining. If like hands none down, Join does
// nothing and joined is false.
func Join(path, like string) (joined bool, err error) {
	from, err := openDir(like)
	if err != nil {
		return false, err
	}
	defer from.Close()
	a, err := attributes(from)
	if err != nil || a.flags&projectInherit == 0 {
		return false, err
	}
	to, err := os.OpenFile(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer to.Close()
	return true, enter(to, a.project)
}

func ioctl(f *os.File, request uint, a *fsxattr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(unsafe.Pointer(a))); errno != 0 {
		return errno
	}
	return nil
}
