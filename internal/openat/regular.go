package openat

import (
	"errors"

	"golang.org/x/sys/unix"
)

// ErrNotRegular is returned where something else than a regular file has a file's place.
var ErrNotRegular = errors.New("not a regular file")

// Regular opens the file name, a single one, in a directory, with flags such as O_RDONLY.
// A link isn't followed, a FIFO or a device isn't waited for, and neither is what is
// wanted: ErrNotRegular. What fstat(2) says of it goes to st unless that is nil.
func Regular(dir int, name string, flags int, st *unix.Stat_t) (int, error) {
	fd, err := At(dir, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	return regular(fd, err, st)
}

// RegularInRoot is Regular for a path that is looked up as InRoot does it, links in its
// end included unless flags has O_NOFOLLOW.
func RegularInRoot(root int, path string, flags int) (int, error) {
	fd, err := InRoot(root, path, flags|unix.O_NONBLOCK|unix.O_NOCTTY)
	return regular(fd, err, nil)
}

func regular(fd int, err error, st *unix.Stat_t) (int, error) {
	switch err {
	case nil:
	case unix.ELOOP, unix.ENXIO, unix.EISDIR, unix.ENODEV: // a link, a socket or FIFO, a directory, a device
		return -1, ErrNotRegular
	default:
		return -1, err
	}
	if st == nil {
		st = &unix.Stat_t{}
	}
	if err = unix.Fstat(fd, st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = ErrNotRegular
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
