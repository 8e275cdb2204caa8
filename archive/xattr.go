package archive

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// Sizes of the kernel, include/uapi/linux/limits.h: one value, and all the names of one file.
const (
	xattrSizeMax = 65536
	xattrListMax = 65536
)

// xattrsMax bounds what one file's attributes may take in a tar header. Go's readers refuse a PAX header beyond 1 MiB, so a larger one
// would only make an archive that nobody can read.
const xattrsMax = 1 << 20

// xattrFile is a file whose attributes are wanted: an open one, or one named below an open directory.
type xattrFile struct {
	fd   int    // for a file open for reading; else -1
	path string // else /proc/self/fd/<directory>/<name>, of which only the last name could be a link and is not followed
}

func openXattr(fd int) xattrFile { return xattrFile{fd: fd} }

// xattrAt names a file that can't or needn't be opened: a link, a device. The way over /proc works since Linux 2.6; listxattrat(2) only
// since 6.13.
func xattrAt(dirfd int, name string) xattrFile {
	return xattrFile{fd: -1, path: "/proc/self/fd/" + strconv.Itoa(dirfd) + "/" + name}
}

// xattrBuffers are scratch space for reading attributes; each goroutine has its own.
type xattrBuffers struct {
	names []byte
	value []byte
}

func newXattrBuffers() *xattrBuffers {
	return &xattrBuffers{names: make([]byte, 1024), value: make([]byte, 1024)}
}

// list returns the file's attribute names, each followed by NUL, valid until the next call. A file system without attributes has none.
func (b *xattrBuffers) list(f xattrFile) ([]byte, error) {
	for {
		var n int
		var err error
		if f.fd >= 0 {
			n, err = unix.Flistxattr(f.fd, b.names)
		} else {
			n, err = unix.Llistxattr(f.path, b.names)
		}
		switch {
		case err == nil:
			return b.names[:n], nil
		case err == unix.EINTR:
		case err == unix.ERANGE && len(b.names) < xattrListMax:
			b.names = make([]byte, xattrListMax)
		case err == unix.ENOTSUP:
			return nil, nil
		default:
			return nil, fmt.Errorf("list attributes: %w", err)
		}
	}
}

// get returns the value of one attribute, valid until the next call, and whether the file has it.
func (b *xattrBuffers) get(f xattrFile, name string) ([]byte, bool, error) {
	for {
		var n int
		var err error
		if f.fd >= 0 {
			n, err = unix.Fgetxattr(f.fd, name, b.value)
		} else {
			n, err = unix.Lgetxattr(f.path, name, b.value)
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

// overlayNames are the attributes by which overlayfs keeps its books, in the form that the mount uses (userxattr: Linux 5.11).
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

// marks looks for overlay's attributes on a file of an upper directory. It returns errdefs.ErrUnsupported when the file's content or
// place is not the upper's alone: then the upper cannot be read on its own.
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
			return false, fmt.Errorf("attribute %s: reading the upper directory alone: %w", name, errdefs.ErrUnsupported)
		case n.opaque:
			value, ok, err := b.get(f, n.opaque)
			if err != nil {
				return false, err
			}
			// "x" only says that the directory may hold whiteouts in attribute form (Linux 6.7).
			opaque = ok && string(value) == "y"
		}
	}
	return opaque, nil
}

// exported reports whether an attribute belongs into a layer's tar: file capabilities, IMA signatures and what users set, except the
// books of an unprivileged overlay mount. Labels, ACLs and trusted attributes are the host's.
func exported(name string) bool {
	switch {
	case name == "security.capability", name == "security.ima":
		return true
	case strings.HasPrefix(name, "user."):
		return !strings.HasPrefix(name, "user.overlay.")
	}
	return false
}
