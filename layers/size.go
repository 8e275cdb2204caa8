package layers

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// DiffSize estimates in bytes what Diff would write: the sizes of the files that to has
// added or changed against from, or against its parent when from is "".
func (s *Store) DiffSize(ctx context.Context, to, from string) (int64, error) {
	c, err := s.comparison(ctx, to, from)
	if err != nil {
		return 0, err
	}
	defer c.close()
	size, err := c.files().Size(ctx)
	if err != nil {
		return 0, fmt.Errorf("layer %s: diff size: %w", c.to.ID, err)
	}
	return size, nil
}

// changedBytes sums up the files that a change list has added or modified, hard links
// counted once.
func changedBytes(dir string, changes []diff.Change) (int64, error) {
	root, err := openat.At(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(root)
	var size int64
	counted := map[uint64]bool{}
	for _, change := range changes {
		if change.Kind == diff.Deleted {
			continue
		}
		st, err := statBeneath(root, change.Path)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue // gone meanwhile: the layer may be in use
		}
		if err != nil {
			return 0, fmt.Errorf("stat %s: %w", filepath.Join(dir, change.Path), err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR || counted[st.Ino] {
			continue
		}
		counted[st.Ino] = st.Nlink > 1
		size += st.Size
	}
	return size, nil
}

// statBeneath is lstat of a path within an open directory, whatever links the path's
// names have become.
func statBeneath(root int, path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := openat.InRoot(root, path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st)
}
