// Package openat opens what lies beneath a directory that is open already.
//
// It is the one place that does. What a store holds is somebody else's choice: a layer's
// names are an archive's, the store may have been copied from elsewhere or belong to
// somebody else, and a container may change its files while we look at them. So a path
// is never looked up from the host's root directory, and how links are treated is part of
// each function's name.
//
// Descriptors are closed on execve(2). Errors of the functions that take a descriptor are
// the kernel's own; the caller knows what the path was relative to,
// and names it.
package openat

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// At is openat(2), repeated when a signal interrupts it. Links above the last name are
// followed, so name is a single one unless dir is unix.AT_FDCWD and the path is the
// caller's own. O_NOATIME is for a file's owner; for everybody else it is left out.
func At(dir int, name string, flags int) (int, error) { return at(dir, name, flags, 0) }

// Create makes the file name, a single one, in a directory, with flags such as O_WRONLY.
// EEXIST says that anything, a link among others, is in its place.
func Create(dir int, name string, flags int, perm uint32) (int, error) {
	return at(dir, name, flags|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, perm)
}

func at(dir int, name string, flags int, perm uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, perm)
		switch {
		case err == unix.EINTR:
		case err == unix.EPERM && flags&unix.O_NOATIME != 0:
			flags &^= unix.O_NOATIME
		default:
			return fd, err
		}
	}
}

// InRoot looks path up below the directory root as a process whose root directory that
// is would do: links are followed, absolute ones start at root, and ".." stops there.
// With O_NOFOLLOW in flags the last name is not followed.
func InRoot(root int, path string, flags int) (int, error) {
	return resolve(root, path, flags, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

// Beneath looks path up below the directory root and refuses any link on the way (ELOOP)
// and any way out (EXDEV).
func Beneath(root int, path string, flags int) (int, error) {
	return resolve(root, path, flags|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

// SameMount is Beneath that doesn't enter what is mounted on the way or in the end
// (EXDEV). A btrfs subvolume is no mount.
func SameMount(root int, path string, flags int) (int, error) {
	return resolve(root, path, flags|unix.O_NOFOLLOW,
		unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
}

// Dir opens the directory name, a single one, in another directory to list it. ENOTDIR
// and ELOOP mean that it is something else, EXDEV that something is mounted on it.
func Dir(dir int, name string) (int, error) {
	return SameMount(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
}

// longPath is how much of a path is handed to the kernel at once. It is below PATH_MAX
// (4096, with the final NUL), so that trees deeper than any path can name are reached as
// well, piece by piece.
const longPath = 4000

func resolve(root int, path string, flags int, rule uint64) (int, error) {
	dir := root
	for {
		piece, rest := path, ""
		if len(path) > longPath {
			cut := strings.LastIndexByte(path[:longPath], '/')
			if cut <= 0 {
				return -1, unix.ENAMETOOLONG
			}
			piece, rest = path[:cut], strings.TrimLeft(path[cut:], "/")
		}
		if strings.Trim(piece, "/") == "" {
			piece = "."
		}
		how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: rule}
		if rest != "" {
			how.Flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
		}
		fd, err := openat2(dir, piece, &how)
		if dir != root {
			unix.Close(dir)
		}
		if err != nil || rest == "" {
			return fd, err
		}
		dir, path = fd, rest
		if rule&unix.RESOLVE_IN_ROOT != 0 {
			// Beyond the first piece a link could lead out of the piece but not out of
			// the root, which the kernel can't tell from here.
			rule = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS
		}
	}
}

// mostTries bounds how often a look-up is begun anew. Each takes microseconds, and one of
// several hundred meets a process that does nothing but rename.
const mostTries = 64

func openat2(dir int, path string, how *unix.OpenHow) (int, error) {
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(dir, path, how)
		switch {
		case err == unix.EINTR:
		case err == unix.EPERM && how.Flags&unix.O_NOATIME != 0:
			how.Flags &^= unix.O_NOATIME
		case err == unix.EAGAIN && tries < mostTries: // a rename while the kernel took ".." (openat2(2))
		case err == unix.ENOSYS:
			return -1, fmt.Errorf("openat2 (Linux 5.6) is %w: %w", errdefs.ErrUnsupported, err)
		default:
			return fd, err
		}
	}
}

// ProcPath names an open file or directory for what takes a path.
func ProcPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
