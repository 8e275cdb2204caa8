package graphdriver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/shalestore/shale/internal/openat"
	graphdriver "go.podman.io/storage/drivers"
	"golang.org/x/sys/unix"
)

// DiffGetter opens a layer's directories, so that the library can put its tar together
// from its tar-split file without mounting anything.
func (d *driver[Cleanup, Staged]) DiffGetter(id string) (graphdriver.FileGetCloser, error) {
	info, err := d.own.Stat(context.Background(), id)
	if err != nil {
		return nil, translate(err)
	}
	return &layerFiles{id: id, dirs: append([]string{info.Content}, info.Lower...)}, nil
}

// layerFiles finds files in a layer's directory or, where a copy of everything beneath it
// has taken the layer's files away, in those beneath.
type layerFiles struct {
	id   string
	dirs []string
	fds  []int // of the first of dirs; most layers never need another
}

// Get opens a file by its name in the tar. A name that leads out of the layer finds
// nothing, whatever links are there.
func (f *layerFiles) Get(name string) (io.ReadCloser, error) {
	for i := range f.dirs {
		if i == len(f.fds) {
			fd, err := openat.At(unix.AT_FDCWD, f.dirs[i], unix.O_PATH|unix.O_DIRECTORY)
			if err != nil {
				return nil, &os.PathError{Op: "open", Path: f.dirs[i], Err: err}
			}
			f.fds = append(f.fds, fd)
		}
		fd, err := openat.RegularInRoot(f.fds[i], name, unix.O_RDONLY|unix.O_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", f.id, &os.PathError{Op: "open", Path: name, Err: err})
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	return nil, &os.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// Close closes the directories.
func (f *layerFiles) Close() error {
	for _, fd := range f.fds {
		unix.Close(fd)
	}
	f.fds, f.dirs = nil, nil
	return nil
}
