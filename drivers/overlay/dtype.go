package overlay

import (
	"fmt"
	"os"
	"slices"

	"github.com/shalestore/shale/internal/dirent"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// supportsDType reports whether the entries of a directory, which has at least one, carry
// their type. overlayfs depends on it to see whiteouts.
func supportsDType(dir string) (bool, error) {
	fd, err := openat.At(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	list, _, err := dirent.Read(fd, nil)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", dir, err)
	}
	return !slices.ContainsFunc(list, func(e dirent.Entry) bool { return e.Type == unix.DT_UNKNOWN }), nil
}
