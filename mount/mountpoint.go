package mount

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Unmount takes away the topmost mount on target, at once for everyone who looks and, for
// those who still use it, when they are done (MNT_DETACH). It follows no symlink at
// target. A target that isn't mounted, or isn't there, is no error. What was written
// through a mount program has reached it before.
func Unmount(target string) error {
	flushServed(target)
	switch err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err {
	case nil, unix.EINVAL, unix.ENOENT: // EINVAL: no mount point
		return nil
	default:
		return fmt.Errorf("unmount %s: %w", target, err)
	}
}

// Hold keeps what is mounted on target in being, though out of sight once it is
// unmounted, until it is closed. nil when there is nothing to hold.
func Hold(target string) io.Closer {
	fd, err := unix.Open(target, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return held(fd)
}

// held is a descriptor. An os.File would ask whether it can be polled.
type held int

func (h held) Close() error { return unix.Close(int(h)) }

// IsMountPoint reports whether something is mounted on path itself, bind mounts included.
// A path that doesn't exist is no mount point; a symlink isn't followed. It takes one
// system call, and reads the mount table only on kernels before 5.8.
func IsMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return false, nil
	case errors.Is(err, unix.ENOTCONN): // the mount of a program that is gone
		return true, nil
	case err == nil && st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0:
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	case err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM):
		// EPERM: a seccomp filter that doesn't know statx
		return false, fmt.Errorf("statx %s: %w", path, err)
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	found, err := readTable(mountinfo.SingleEntryFilter(filepath.Join(parent, filepath.Base(path))))
	return len(found) > 0, err
}

// IsPrivate reports whether path is a mount point from which mounts made beneath spread
// nowhere: what MakePrivate makes. It reads the mount table only on kernels before 6.8.
func IsPrivate(path string) (bool, error) {
	if is, err := IsMountPoint(path); err != nil || !is {
		return false, err
	}
	if p, ok := propagation(path); ok {
		return p&(unix.MS_SHARED|unix.MS_SLAVE) == 0, nil
	}
	return isPrivateByTable(path)
}

func isPrivateByTable(path string) (bool, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false, err
	}
	found, err := readTable(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
	if err != nil {
		return false, err
	}
	// "shared:N" and "master:N" are what a mount that isn't private carries in its
	// optional fields (proc_pid_mountinfo(5)).
	return len(found) > 0 && found[len(found)-1].Optional == "", nil
}

// Below lists the mount points beneath dir, dir itself excluded, in an order in which
// they can be unmounted: the last one made comes first.
func Below(dir string) ([]string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found, err := readTable(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, err
	}
	var points []string
	for _, m := range found {
		if m.Mountpoint != dir {
			points = append(points, m.Mountpoint)
		}
	}
	slices.Reverse(points)
	return points, nil
}

// bindsItself reports whether the mount on dir shows the very directory that it covers,
// as MakePrivate makes it, rather than another file system or another directory.
func bindsItself(dir string) (bool, error) {
	all, err := readTable(mountinfo.ParentsFilter(dir))
	if err != nil {
		return false, err
	}
	var top *mountinfo.Info
	for _, m := range all {
		if m.Mountpoint == dir {
			top = m
		}
	}
	if top == nil {
		return false, nil
	}
	for _, m := range all {
		if m.ID != top.Parent {
			continue
		}
		below, err := filepath.Rel(m.Mountpoint, dir)
		return err == nil && m.Major == top.Major && m.Minor == top.Minor && filepath.Join(m.Root, below) == top.Root,
			nil
	}
	return false, nil
}
