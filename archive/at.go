package archive

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Everything that reads a layer's tree goes through these calls: one name below an open
// directory at a time, links never followed unless the caller asks for a lookup inside a
// root. The content of a container's layer may change under our hands, and whoever
// changes it may wish us ill, so no path is ever resolved from the host's root.

// pathChunk is how much of a path is handed to the kernel at once. It is below PATH_MAX
// (4096, with the final NUL) so that trees deeper than any one path can name are still
// reached, piece by piece.
const pathChunk = 4000

// dirRef is an open directory that several goroutines use. It closes itself when the last
// of them has released it.
type dirRef struct {
	fd   int
	refs atomic.Int32
}

func newDirRef(fd int) *dirRef {
	d := &dirRef{fd: fd}
	d.refs.Store(1)
	return d
}

func (d *dirRef) retain() *dirRef {
	d.refs.Add(1)
	return d
}

func (d *dirRef) release() {
	if d.refs.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}

// openRoot opens a directory that the caller names: the one place where a path is
// resolved as the host sees it.
func openRoot(path string) (*dirRef, error) {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open directory %s: %w", path, err)
	}
	return newDirRef(fd), nil
}

func openat(dirfd int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// openDirAt opens the directory name below dirfd for reading. A link in its place is an
// error (ENOTDIR).
func openDirAt(dirfd int, name string) (int, error) {
	fd, err := openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NOATIME)
	if err == unix.EPERM { // O_NOATIME is for the owner and CAP_FOWNER only
		fd, err = openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	}
	return fd, err
}

func statAt(dirfd int, name string, st *unix.Stat_t) error {
	for {
		err := unix.Fstatat(dirfd, name, st, unix.AT_SYMLINK_NOFOLLOW)
		if err != unix.EINTR {
			return err
		}
	}
}

func readlinkAt(dirfd int, name string) (string, error) {
	var buf [4096]byte // PATH_MAX: no file system of Linux stores a longer target
	for {
		n, err := unix.Readlinkat(dirfd, name, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		return string(buf[:n]), nil
	}
}

var errReplaced = errors.New("was replaced while it was read")

// openFileAt opens the regular file name below dirfd that a moment ago looked like st.
// FIFOs don't block it (O_NONBLOCK), and what is no longer the same file is refused.
func openFileAt(dirfd int, name string, st *unix.Stat_t) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := openat(dirfd, name, flags|unix.O_NOATIME)
	if err == unix.EPERM {
		fd, err = openat(dirfd, name, flags)
	}
	if err != nil {
		if err == unix.ELOOP || err == unix.ENXIO { // now a link, or a socket
			err = errReplaced
		}
		return -1, err
	}
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if now.Mode&unix.S_IFMT != unix.S_IFREG || now.Ino != st.Ino || now.Dev != st.Dev {
		unix.Close(fd)
		return -1, errReplaced
	}
	return fd, nil
}

// readFull fills buf from the file's current position, and says how much of it there was.
func readFull(fd int, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// openInRoot looks path up below the directory root as a process whose root directory
// that is would do: links are followed, absolute ones start at root, and ".." stops there
// (openat2, Linux 5.6). With unix.O_NOFOLLOW in flags the last name is not followed.
func openInRoot(root int, path string, flags int) (int, error) {
	return openResolved(root, path, flags, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

// openBeneath looks path up below the directory root and refuses any link on the way
// (ELOOP).
func openBeneath(root int, path string, flags int) (int, error) {
	return openResolved(root, path, flags|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

func openResolved(root int, path string, flags int, resolve uint64) (int, error) {
	dir, opened := root, false
	for {
		piece, rest := path, ""
		if len(path) > pathChunk {
			cut := strings.LastIndexByte(path[:pathChunk], '/')
			if cut <= 0 {
				return -1, unix.ENAMETOOLONG
			}
			piece, rest = path[:cut], strings.TrimLeft(path[cut:], "/")
		}
		if strings.Trim(piece, "/") == "" {
			piece = "."
		}
		how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
		if rest != "" {
			how.Flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
		}
		fd, err := openat2(dir, piece, &how)
		if opened {
			unix.Close(dir)
		}
		if err != nil || rest == "" {
			return fd, err
		}
		// Beyond the first piece a link could lead out of the piece but not out of the
		// root, which the kernel can't tell from here.
		dir, opened, path = fd, true, rest
		resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS
	}
}

func openat2(dirfd int, path string, how *unix.OpenHow) (int, error) {
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(dirfd, path, how)
		// EAGAIN: something on the way of ".." was renamed meanwhile (openat2(2)).
		if err == unix.EINTR || (err == unix.EAGAIN && tries < 64) {
			continue
		}
		return fd, err
	}
}

// absent reports whether a lookup failed because nothing is there, as opposed to for a
// fault.
func absent(err error) bool {
	return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP || err == unix.ENAMETOOLONG
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// isWhiteout reports whether st is overlayfs' mark of an absent file: a character device
// 0:0.
func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }
