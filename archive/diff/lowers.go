package diff

import (
	"fmt"
	"path"

	"github.com/shalestore/shale/archive/internal/layerdir"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// lowerRoots are the content directories of a layer's parents, nearest first.
type lowerRoots struct {
	fds []int
}

func openLowers(dirs []string) (*lowerRoots, error) {
	l := &lowerRoots{}
	for _, dir := range dirs {
		fd, err := openat.At(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("open lower directory %s: %w", dir, err)
		}
		l.fds = append(l.fds, fd)
	}
	return l, nil
}

func (l *lowerRoots) close() {
	for _, fd := range l.fds {
		unix.Close(fd)
	}
	l.fds = nil
}

// hold reports whether the path existed below an upper directory: the nearest lower that
// says anything about it decides, by having it or by a whiteout in its place or above.
// Links on the way are followed within the lower, as containers/storage does.
func (l *lowerRoots) hold(name string) bool {
	for _, root := range l.fds {
		for at := name; at != "." && at != "/"; at = path.Dir(at) {
			st, ok := statInRoot(root, at)
			if !ok {
				continue
			}
			if layerdir.IsWhiteout(&st) {
				return false
			}
			if at == name {
				return true
			}
			break // a parent exists, so those above do too
		}
	}
	return false
}

func statInRoot(root int, name string) (st unix.Stat_t, ok bool) {
	fd, err := openat.InRoot(root, name, unix.O_PATH)
	if err != nil {
		return st, false
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st) == nil
}
