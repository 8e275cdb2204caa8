package apply

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// What a file gets besides its content, in an order that matters: the owner first, since
// a change of owner takes the setuid bits and the capabilities away; then the mode; then
// attributes, of which ACLs build on the mode; the times last.

// attrs are the attributes of one file as this host is to show them.
type attrs struct {
	uid, gid uint32
	mode     uint32 // permissions with setuid, setgid, sticky
	times    [2]unix.Timespec
	xattrs   []tarstream.Xattr
	override string // value of archive.OverrideStatXattr; "" for none
}

// attributes works out what h asks for.
func (a *applier) attributes(h *tarstream.Header) (attrs, error) {
	at := attrs{mode: uint32(h.Mode) & 0o7777, xattrs: h.Xattrs}
	uid, err := checkID("user", h.Uid)
	if err != nil {
		return at, err
	}
	gid, err := checkID("group", h.Gid)
	if err != nil {
		return at, err
	}
	if owner := a.opts.Owner; owner != nil {
		uid, gid = owner.UID, owner.GID
	}
	if at.uid, at.gid, err = a.ids.ToHost(uid, gid); err != nil {
		return at, err
	}
	atime := h.Mtime
	if h.HasAtime && h.Mtime.Before(h.Atime) {
		atime = h.Atime // never before the last modification, as the other tools have it
	}
	at.times = [2]unix.Timespec{{Sec: atime.Sec, Nsec: atime.Nsec}, {Sec: h.Mtime.Sec, Nsec: h.Mtime.Nsec}}
	if a.opts.ForceMask != nil {
		if h.Typeflag != tar.TypeSymlink && h.Typeflag != tar.TypeLink {
			at.override = overrideValue(at.uid, at.gid, at.mode, h)
		}
		at.mode = uint32(a.opts.ForceMask.Perm())
	}
	return at, nil
}

// checkID makes sure that a header's ID is one. -1, alone or as 2^32-1, would mean "leave
// it" to chown(2).
func checkID(what string, id int64) (uint32, error) {
	if id < 0 || id >= math.MaxUint32 {
		return 0, fmt.Errorf("%w: %d is no %s ID", errdefs.ErrInvalid, id, what)
	}
	return uint32(id), nil
}

// overrideValue encodes uid:gid:mode:type.
func overrideValue(uid, gid, mode uint32, h *tarstream.Header) string {
	kind := "file"
	switch h.Typeflag {
	case tar.TypeDir:
		kind = "dir"
	case tar.TypeFifo:
		kind = "pipe"
	case tar.TypeBlock:
		kind = "block-" + strconv.FormatInt(h.DevMajor, 10) + "-" + strconv.FormatInt(h.DevMinor, 10)
	case tar.TypeChar:
		kind = "char-" + strconv.FormatInt(h.DevMajor, 10) + "-" + strconv.FormatInt(h.DevMinor, 10)
	}
	return fmt.Sprintf("%d:%d:%04o:%s", uid, gid, mode, kind)
}

// process is what every new file gets from the process that makes it.
type process struct {
	uid, gid uint32
	umask    uint32
	userns   bool // in a user namespace: some attributes and devices are refused, and may be missing
}

// thisProcess reads what new files get from this process.
func thisProcess() (process, error) {
	p := process{uid: uint32(unix.Geteuid()), gid: uint32(unix.Getegid())}
	// umask(2) can be read only by changing it, which other threads would feel.
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return p, fmt.Errorf("read the umask: %w", err)
	}
	_, rest, ok := strings.Cut(string(status), "\nUmask:")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(strings.TrimSpace(line), 8, 32)
	if !ok || err != nil {
		return p, fmt.Errorf("read the umask: /proc/thread-self/status has none")
	}
	p.umask = uint32(mask)
	all, err := idtools.EveryIDMapped()
	p.userns = err == nil && !all
	return p, nil
}

// setFile puts the attributes on the file fd that was just made in d with the permissions
// of at.mode.
func (a *applier) setFile(fd int, d *directory, at *attrs) error {
	if a.opts.ForceMask == nil && (at.uid != a.proc.uid || at.gid != a.newGroup(d)) {
		if _, err := a.chown(fd, "", at.uid, at.gid); err != nil {
			return err
		}
	}
	if d.acl {
		// The archive says what ACLs its files have, or that they have none.
		if err := xattr.Open(fd).Remove(xattr.AccessACL); err != nil {
			return fmt.Errorf("remove inherited ACL: %w", err)
		}
	}
	if at.mode&0o7000 != 0 || at.mode&a.proc.umask != 0 || d.acl {
		if err := unix.Fchmod(fd, at.mode); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	if err := a.setXattrs(at, xattr.Open(fd)); err != nil {
		return err
	}
	if err := futimens(fd, &at.times); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// newGroup is the group that the kernel gives a new file in d.
func (a *applier) newGroup(d *directory) uint32 {
	if d.mode&unix.S_ISGID != 0 {
		return d.gid
	}
	return a.proc.gid
}

// hostsOwn reports whether an attribute is none that an archive can give a file. Labels
// name another host's policy. Those of overlay tell it what is beneath a file, which is
// for whoever makes the layer to say: a redirect or a metacopy from an archive makes the
// mount show something else than the layer, or nothing at all.
func hostsOwn(name string) bool {
	return name == "security.selinux" || strings.HasPrefix(name, "trusted.overlay.") ||
		strings.HasPrefix(name, "user.overlay.") || strings.HasPrefix(name, "user.fuseoverlayfs.")
}

// setXattrs sets the extended attributes of a file, and the override.
func (a *applier) setXattrs(at *attrs, file xattr.File) error {
	for _, x := range at.xattrs {
		if hostsOwn(x.Name) {
			continue
		}
		err := file.Set(x.Name, []byte(x.Value), 0)
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) && a.proc.userns {
			continue // the file system or the namespace can't hold it: a file without it is better than no layer
		}
		if a.tooLarge(err) {
			return errdefs.AttributeTooLarge{Name: x.Name, Size: len(x.Value)}
		}
		if err != nil {
			return fmt.Errorf("set attribute %s: %w", shown(x.Name), err)
		}
	}
	if at.override != "" {
		if err := file.Set(archive.OverrideStatXattr, []byte(at.override), 0); err != nil {
			return fmt.Errorf("set attribute %q: %w", archive.OverrideStatXattr, err)
		}
	}
	return nil
}

// tooLarge reports whether an error of setxattr(2) speaks of the attribute's size. ext4
// says ENOSPC for that as well as for a full disk.
func (a *applier) tooLarge(err error) bool {
	if errors.Is(err, unix.E2BIG) {
		return true
	}
	var fs unix.Statfs_t
	return errors.Is(err, unix.ENOSPC) && unix.Fstatfs(a.tree.root.fd, &fs) == nil && fs.Bavail > 0
}

// setNamed puts the attributes on name in d, which can't be opened like a file: a
// symlink, a device, a FIFO or a second name of anything. It is held by an O_PATH
// descriptor meanwhile, so that all of it happens to one inode.
func (a *applier) setNamed(d *directory, name string, at *attrs) error {
	fd, err := openat.At(d.fd, name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	symlink := st.Mode&unix.S_IFMT == unix.S_IFLNK
	if a.opts.ForceMask == nil && (at.uid != st.Uid || at.gid != st.Gid) {
		if _, err := a.chown(fd, "", at.uid, at.gid); err != nil {
			return err
		}
	}
	// A symlink can't be reached through its own descriptor, only below its directory's.
	file := xattr.At(d.fd, name)
	if !symlink {
		// The kernel has no fchmod for O_PATH descriptors before fchmodat2 (Linux 6.6):
		// /proc leads to the very same inode, and to no other.
		if err := unix.Chmod(openat.ProcPath(fd), at.mode); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
		file = xattr.Held(fd)
	}
	if err := a.setXattrs(at, file); err != nil {
		return err
	}
	if err := unix.UtimesNanoAt(d.fd, name, at.times[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// chown gives a file its owner: name in the directory fd, or with "" what is open as fd.
// It reports whether that could be done, if not is no error.
func (a *applier) chown(fd int, name string, uid, gid uint32) (bool, error) {
	err := unix.Fchownat(fd, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
	if err == nil || a.opts.IgnoreChownErrors {
		return err == nil, nil
	}
	return false, fmt.Errorf("set owner %d:%d: %w", uid, gid, idtools.ExplainOwner(uid, gid, err))
}

// futimens sets the times of an open file.
func futimens(fd int, times *[2]unix.Timespec) error {
	// utimensat(2) with a null path is futimens(3); the wrapper of x/sys can't pass one.
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
