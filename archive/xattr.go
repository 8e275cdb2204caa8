package archive

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// Sizes of the kernel, include/uapi/linux/limits.h: one value, and all the names of one
// file.
const (
	xattrSizeMax = 65536
	xattrListMax = 65536
)

// xattrsMax bounds what one file's attributes may take in a tar header. Go's readers
// refuse a PAX header beyond 1 MiB, so a larger one would only make an archive that
// nobody can read.
const xattrsMax = 1 << 20

// xattrFile is a file whose attributes are wanted: an open one, or one named below an
// open directory.
type xattrFile struct {
	fd   int    // of the file, when name is empty; else of its directory
	name string // if it is a link, it is not followed
}

func openXattr(fd int) xattrFile { return xattrFile{fd: fd} }

func xattrAt(dirfd int, name string) xattrFile { return xattrFile{fd: dirfd, name: name} }

// viaProc names the file for calls that only know paths.
func (f xattrFile) viaProc() string { return "/proc/self/fd/" + strconv.Itoa(f.fd) + "/" + f.name }

// xattrBuffers are scratch space for reading attributes; each goroutine has its own.
type xattrBuffers struct {
	names []byte
	value []byte
	old   bool // the kernel has no listxattrat(2)
}

func newXattrBuffers() *xattrBuffers {
	return &xattrBuffers{names: make([]byte, 1024), value: make([]byte, 1024)}
}

// list returns the file's attribute names, each followed by NUL, valid until the next
// call. A file system without attributes has none.
func (b *xattrBuffers) list(f xattrFile) ([]byte, error) {
	for {
		n, err := b.listOnce(f)
		switch {
		case err == nil:
			return b.names[:n], nil
		case err == unix.EINTR:
		case err == unix.ENOSYS && !b.old:
			b.old = true
		case err == unix.ERANGE && len(b.names) < xattrListMax:
			b.names = make([]byte, xattrListMax)
		case err == unix.ENOTSUP:
			return nil, nil
		default:
			return nil, fmt.Errorf("list attributes: %w", err)
		}
	}
}

func (b *xattrBuffers) listOnce(f xattrFile) (int, error) {
	switch {
	case f.name == "":
		return unix.Flistxattr(f.fd, b.names)
	case b.old:
		return unix.Llistxattr(f.viaProc(), b.names)
	}
	// listxattrat(2), Linux 6.13: a third of the time of the way over /proc, and one call
	// for each file of a layer.
	name, err := unix.BytePtrFromString(f.name)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(f.fd), uintptr(unsafe.Pointer(name)),
		unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(&b.names[0])), uintptr(len(b.names)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// get returns the value of one attribute, valid until the next call, and whether the file
// has it.
func (b *xattrBuffers) get(f xattrFile, name string) ([]byte, bool, error) {
	for {
		var n int
		var err error
		if f.name == "" {
			n, err = unix.Fgetxattr(f.fd, name, b.value)
		} else {
			n, err = unix.Lgetxattr(f.viaProc(), name, b.value)
		}
		switch {
		case err == nil:
			return b.value[:n], true, nil
		case err == unix.EINTR:
		case err == unix.ERANGE && len(b.value) < xattrSizeMax:
			b.value = make([]byte, xattrSizeMax)
		case err == unix.ENODATA || err == unix.ENOTSUP:
			return nil, false, nil
		default:
			return nil, false, fmt.Errorf("read attribute %q: %w", name, err)
		}
	}
}

// nextName takes the first name off a list.
func nextName(names []byte) (name, rest []byte) {
	name, rest, _ = bytes.Cut(names, []byte{0})
	return name, rest
}

// overlayNames are the attributes by which overlayfs keeps its books, in the form that
// the mount uses (userxattr: Linux 5.11).
type overlayNames struct {
	opaque, redirect, metacopy string
}

func overlayXattrs(userXattr bool) overlayNames {
	prefix := "trusted.overlay."
	if userXattr {
		prefix = "user.overlay."
	}
	return overlayNames{opaque: prefix + "opaque", redirect: prefix + "redirect", metacopy: prefix + "metacopy"}
}

// marks looks for overlay's attributes on a file of an upper directory. It returns
// errdefs.ErrUnsupported when the file's content or place is not the upper's alone: then
// the upper cannot be read on its own.
func (n overlayNames) marks(b *xattrBuffers, f xattrFile) (opaque bool, err error) {
	names, err := b.list(f)
	if err != nil {
		return false, err
	}
	for len(names) > 0 {
		var name []byte
		name, names = nextName(names)
		switch string(name) {
		case n.redirect, n.metacopy:
			return false, fmt.Errorf("attribute %s: reading the upper directory alone: %w", name,
				errdefs.ErrUnsupported)
		case n.opaque:
			value, ok, err := b.get(f, n.opaque)
			if err != nil {
				return false, err
			}
			// "x" only says that the directory may hold whiteouts in attribute form
			// (Linux 6.7).
			opaque = ok && string(value) == "y"
		}
	}
	return opaque, nil
}

// exported reports whether an attribute belongs into a layer's tar: file capabilities,
// IMA signatures and what users set, except the books of an unprivileged overlay mount.
// Labels, ACLs and trusted attributes are the host's.
func exported(name string) bool {
	switch {
	case name == "security.capability", name == "security.ima":
		return true
	case strings.HasPrefix(name, "user."):
		return !strings.HasPrefix(name, "user.overlay.")
	}
	return false
}
