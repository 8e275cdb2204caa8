package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// bind makes a directory appear in a second place, with flags of its own that hold from
// the first moment on: the copy of the mount is detached while they are set.
func bind(s Spec) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, s.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	switch err {
	case nil:
	case unix.ENOSYS, unix.EPERM:
		return errNoContextAPI
	default:
		return fmt.Errorf("open_tree %s: %w", s.Source, err)
	}
	defer unix.Close(tree)
	if s.Attr != 0 {
		attr := unix.MountAttr{Attr_set: s.Attr}
		if s.Attr&atimeMask != 0 {
			// the kernel wants the old way of keeping access times cleared when a new one
			// is set
			attr.Attr_clr = atimeMask
		}
		switch err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err {
		case nil:
		case unix.ENOSYS: // before Linux 5.12
			return errNoContextAPI
		default:
			return fmt.Errorf("mount_setattr %s: %w", attrNames(s.Attr), err)
		}
	}
	return moveTo(tree, s.Target)
}

// classicBind needs two calls: mount(2) ignores the flags of a new bind mount, and takes
// them when it is remounted.
func classicBind(s Spec) error {
	if err := unix.Mount(s.Source, s.Target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", s.Source, err)
	}
	if s.Attr == 0 {
		return nil
	}
	if err := unix.Mount("", s.Target, "", unix.MS_REMOUNT|unix.MS_BIND|classicFlags(s.Attr), ""); err != nil {
		_ = unix.Unmount(s.Target, unix.MNT_DETACH)
		return fmt.Errorf("set %v on the bind mount of %s: %w", attrNames(s.Attr), s.Source, err)
	}
	return nil
}

// MakePrivate makes dir a mount point, by binding it on itself when it is none, whose
// mounts beneath stay in this mount namespace (mount_namespaces(7), MS_PRIVATE). It
// changes nothing when that is so already; two processes doing it at once would make two
// mounts, so callers hold a lock.
func MakePrivate(dir string) error {
	is, err := IsMountPoint(dir)
	if err != nil {
		return err
	}
	if !is {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s on itself: %w", dir, privilege(err))
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mount on %s private: %w", dir, privilege(err))
	}
	return nil
}

// privilege gives a missing capability the class it deserves.
func privilege(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: mounting needs CAP_SYS_ADMIN in the user namespace that owns this mount namespace: %w",
			errdefs.ErrUnsupported, err)
	}
	return err
}

// UndoPrivate takes away the mount that MakePrivate made on dir. Another mount on dir,
// such as a file system of its own, stays and is no error, and neither is none at all.
// While something is mounted beneath dir it is errdefs.ErrInUse.
func UndoPrivate(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ours, err := bindsItself(dir)
	if err != nil || !ours {
		return err
	}
	below, err := Below(dir)
	if err != nil {
		return err
	}
	if len(below) > 0 {
		return fmt.Errorf("unmount %s: %w: %s is mounted beneath it", dir, errdefs.ErrInUse, below[0])
	}
	return Unmount(dir)
}
