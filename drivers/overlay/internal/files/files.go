// Package files knows the small files that the overlay driver keeps beside the content of
// a layer, as containers/storage has them: its short name, the lists of what lies beneath
// it, and where in an additional layer store its content is.
package files

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// Names in a home that are no layers.
const (
	// LinkDir holds the short names.
	LinkDir = "l"
	// StagingDirs holds partial pulls.
	StagingDirs = "staging"
)

// StagingLock is the file in the directory of a partial pull whose lock its process holds
// as long as it lives (format, section 10.1).
const StagingLock = "staging.lock"

// Homes are the homes of the driver.
type Homes struct {
	drivers.Homes
	// Stores are the additional layer stores of the configuration.
	Stores []string
}

// NewHomes is drivers.NewHomes for the driver of that name.
func NewHomes(name string, at drivers.Place, stores []string) (Homes, error) {
	h, err := drivers.NewHomes(name, "", at)
	h.Reserved = reserved
	return Homes{h, stores}, err
}

// reserved are the names that mean something else in the home.
func reserved(name string) bool {
	return name == LinkDir || name == drivers.TempDirs || name == StagingDirs
}

// IsID reports whether a name in a home can be that of a layer.
func IsID(name string) bool { return !reserved(name) && drivers.ValidateID(name) == nil }

// IsProbe recognizes the directories in which containers/storage makes its test mounts.
func IsProbe(name string) bool {
	for _, prefix := range []string{"opaque-bug-check", "metacopy-check", "volatile-check", "compat"} {
		if number, ok := strings.CutPrefix(name, prefix); ok {
			return number != "" && strings.Trim(number, "0123456789") == ""
		}
	}
	return false
}

// ReadSmall reads a file of at most limit bytes; a longer one is errdefs.ErrCorrupt.
// Whoever wrote it, it is a regular file or it isn't read.
func ReadSmall(path string, limit int) ([]byte, error) {
	dir, name := filepath.Split(path)
	home, id := filepath.Split(filepath.Clean(dir))
	fd, err := openat.Open(home, filepath.Join(id, name), unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	// What is no regular file gives nothing that makes sense, or an error; thanks to
	// O_NONBLOCK at once.
	data := make([]byte, min(limit, 4<<10)+1)
	for done := 0; ; {
		n, err := unix.Read(fd, data[done:])
		if err == unix.EINTR {
			continue
		}
		if err == unix.EISDIR || err == unix.EINVAL || err == unix.EAGAIN {
			return nil, openat.Damaged(path, openat.ErrNotRegular.Error())
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		short := n < len(data)-done
		done += n
		switch {
		case done > limit:
			return nil, fmt.Errorf("%s: %w: longer than %d bytes", path, errdefs.ErrCorrupt, limit)
		case short: // the end of a regular file
			return data[:done], nil
		default:
			data = append(data, make([]byte, min(len(data), limit+1-done))...)
		}
	}
}
