package layerdir

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/shalestore/shale/internal/dirent"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// Lowers are the content directories of a layer's parents, nearest first.
type Lowers struct {
	FDs []int

	// what Merged has said last
	path string
	dirs []int
}

// OpenLowers opens them.
func OpenLowers(dirs []string) (*Lowers, error) {
	l := &Lowers{}
	for _, dir := range dirs {
		fd, err := openat.At(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("open lower directory %s: %w", dir, err)
		}
		l.FDs = append(l.FDs, fd)
	}
	return l, nil
}

// Close closes them.
func (l *Lowers) Close() {
	for _, fd := range l.FDs {
		unix.Close(fd)
	}
	l.FDs = nil
}

// Hold reports whether the path existed below an upper directory: the nearest lower that
// says anything about it decides, by having it or by a whiteout in its place or above.
// Links on the way are followed within the lower, as containers/storage does.
func (l *Lowers) Hold(name string) bool {
	for _, root := range l.FDs {
		for at := name; at != "." && at != "/"; at = path.Dir(at) {
			st, err := stat(openat.InRoot, root, at)
			if err != nil {
				continue
			}
			if IsWhiteout(&st) {
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

// Shows reports whether an overlay of these directories, with its attributes in the form
// that opaque tells, has something at name in the directory dir.
func (l *Lowers) Shows(dir, name, opaque string) (bool, error) {
	dirs, err := l.Merged(dir, opaque)
	if err != nil {
		return false, err
	}
	for _, i := range dirs {
		if st, err := stat(openat.Beneath, l.FDs[i], path.Join(dir, name)); err == nil {
			return !IsWhiteout(&st), nil
		} else if !Absent(err) {
			return false, err
		}
	}
	return false, nil
}

// Names lists what such an overlay has in the directory dir.
func (l *Lowers) Names(dir, opaque string) (names []string, err error) {
	dirs, err := l.Merged(dir, opaque)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, i := range dirs {
		fd, err := openat.Beneath(l.FDs[i], dir, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return nil, fmt.Errorf("open /%s in a lower directory: %w", dir, err)
		}
		list, err := dirent.List(fd)
		for _, e := range list {
			if known[e.Name] {
				continue
			}
			known[e.Name] = true
			var st unix.Stat_t
			if e.Type != unix.DT_CHR || StatAt(fd, e.Name, &st) != nil || !IsWhiteout(&st) {
				names = append(names, e.Name)
			}
		}
		unix.Close(fd)
		if err != nil {
			return nil, fmt.Errorf("read /%s in a lower directory: %w", dir, err)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Merged tells which of the directories make up the directory dir of the overlay.
func (l *Lowers) Merged(dir, opaque string) ([]int, error) {
	if l.dirs != nil && l.path == dir {
		return l.dirs, nil
	}
	dirs := []int{}
	if dir == "" {
		for i := range l.FDs {
			dirs = append(dirs, i)
		}
		return dirs, nil
	}
	parent, _ := path.Split(dir)
	above, err := l.Merged(strings.TrimSuffix(parent, "/"), opaque)
	if err != nil {
		return nil, err
	}
	for _, i := range above {
		fd, err := openat.Beneath(l.FDs[i], dir, unix.O_RDONLY|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if Absent(err) { // a whiteout, or a file: nothing deeper counts
			break
		}
		if err != nil {
			return nil, fmt.Errorf("open /%s in a lower directory: %w", dir, err)
		}
		dirs = append(dirs, i)
		n, _ := xattr.Open(fd).Size(opaque)
		unix.Close(fd)
		if n == len("y") {
			break
		}
	}
	l.path, l.dirs = dir, dirs
	return dirs, nil
}

// stat looks a name up below root, the way that open does.
func stat(open func(root int, name string, flags int) (int, error), root int, name string) (st unix.Stat_t, err error) {
	fd, err := open(root, name, unix.O_PATH)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st)
}
