package apply

import (
	"fmt"

	"github.com/shalestore/shale/internal/dirent"
	"github.com/shalestore/shale/internal/layerdir"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// Removing what an earlier member, or an earlier apply, has left where a new one goes.

// occupant is what was found at a name.
type occupant int

const (
	nobody        occupant = iota
	sameDirectory          // a directory where a directory is wanted: the two become one
	removedHiding          // what has hidden a lower directory of the name, now gone
	removedOther
)

// clearName makes sure that nothing is at base in d, and notes that something will be.
// With merge a directory may stay.
func (a *applier) clearName(d *directory, base string, merge bool) (occupant, error) {
	first := a.take(d, base)
	if first && d.fresh {
		return nobody, nil
	}
	return a.remove(d, base, merge, !first)
}

// remove removes what is at base in d. ours says that it may be of this layer.
func (a *applier) remove(d *directory, base string, keepDir, ours bool) (occupant, error) {
	if err := a.writers.finish(d, base); err != nil {
		return nobody, err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if err == unix.ENOENT {
			return nobody, nil
		}
		return nobody, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if keepDir {
			return sameDirectory, nil
		}
		if err := a.writers.drain(); err != nil {
			return nobody, err
		}
		a.tree.forgetPaths()
		if err := a.removeTree(d, base); err != nil {
			return nobody, fmt.Errorf("remove directory: %w", err)
		}
		return removedOther, nil
	case unix.S_IFLNK:
		a.tree.forgetPaths()
	case unix.S_IFREG:
		if ours {
			if err := a.shadow(d.fd, base, &st); err != nil {
				return nobody, err
			}
		}
	}
	if err := unix.Unlinkat(d.fd, base, 0); err != nil {
		return nobody, fmt.Errorf("remove: %w", err)
	}
	if ours || layerdir.IsWhiteout(&st) {
		return removedHiding, nil
	}
	return removedOther, nil
}

// removeTree removes the directory base in d with everything below. It holds two
// descriptors at a time, however deep the tree is: it goes down by name and up by "..",
// and makes sure by inode number that it comes back to where it was.
func (a *applier) removeTree(d *directory, base string) error {
	type level struct {
		ino  uint64
		name string   // of the directory in its parent
		subs []string // directories in it that are still there
	}
	fd, err := openat.Dir(d.fd, base)
	if err != nil {
		return err
	}
	defer func() { unix.Close(fd) }()
	var stack []level
	enter := func(name string) error {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		ino, err := inode(fd)
		if err != nil {
			return err
		}
		subs, err := a.removeFiles(fd, ino)
		stack = append(stack, level{ino, name, subs})
		return err
	}
	if err := enter(base); err != nil {
		return err
	}
	for {
		top := &stack[len(stack)-1]
		if n := len(top.subs); n > 0 {
			sub := top.subs[n-1]
			top.subs = top.subs[:n-1]
			child, err := openat.Dir(fd, sub)
			if err != nil {
				return err
			}
			unix.Close(fd)
			fd = child
			if err := enter(sub); err != nil {
				return err
			}
			continue
		}
		// Empty: remove it from its parent.
		name := top.name
		stack = stack[:len(stack)-1]
		if len(stack) == 0 {
			return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR)
		}
		up, err := openat.At(fd, "..", unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		unix.Close(fd)
		fd = up
		ino, err := inode(fd)
		if err != nil {
			return err
		}
		if ino != stack[len(stack)-1].ino {
			return fmt.Errorf("%q was moved while it was removed", name)
		}
		if err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err != nil {
			return err
		}
	}
}

// removeFiles removes everything from the directory but directories, and returns the
// names of those.
func (a *applier) removeFiles(fd int, ino uint64) (subs []string, err error) {
	list, err := dirent.List(fd)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		name := e.Name
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, err
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			subs = append(subs, name)
			continue
		case unix.S_IFREG:
			if a.taken.Has(a.nameHash(ino, name)) {
				if err := a.shadow(fd, name, &st); err != nil {
					return nil, err
				}
			}
		}
		if err := unix.Unlinkat(fd, name, 0); err != nil {
			return nil, err
		}
	}
	return subs, nil
}

func inode(fd int) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Ino, err
}
