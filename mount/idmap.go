package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// Owners are translated by a mount, not by a file system
// (Documentation/filesystems/idmappings.rst): a copy of the mount that a lower directory
// lies on gets the mapping (mount_setattr(2), MOUNT_ATTR_IDMAP; overlayfs takes such
// lowers since Linux 5.19). Lower directories lie side by side as a rule, so one copy of
// the directory above them all does for hundreds, and each is opened beneath it.
// overlayfs makes copies of its own of the mounts it is given, so that ours can go when
// it is set up.

// withIDMap performs a Spec that has an IDMap. The copies stay detached, so that no other
// process sees them and a crash leaves none, where overlayfs takes directories of
// detached mounts (Linux 6.18 does; not every kernel since 5.19).
func withIDMap(s Spec) error {
	return withCopies(s, func(copies *mountCopies) error {
		err := byDetachedCopies(s, copies)
		if errors.Is(err, errNoContextAPI) || errors.Is(err, unix.EINVAL) {
			if attached := byAttachedCopies(s, copies); attached == nil || errors.Is(err, errNoContextAPI) {
				return attached
			}
		}
		return err
	})
}

// withCopies makes the copies that a Spec's lower directories need, for as long as it
// takes to mount them.
func withCopies(s Spec, mount func(*mountCopies) error) error {
	ns, err := idtools.OpenUserNamespace(*s.IDMap)
	if err != nil {
		return err
	}
	defer ns.Close()
	copies, err := mapCopies(s.Lower[s.Unmapped:], ns)
	if err != nil {
		return err
	}
	defer copies.close()
	return mount(copies)
}

// mountCopies are ID-mapped copies of mounts, and directories in them.
type mountCopies struct {
	trees []int // detached mounts
	dirs  []mappedDir
}

type mappedDir struct {
	tree int    // index in trees
	rel  string // within the tree, "." for its root
	fd   int    // open for use as a place
}

func (c *mountCopies) close() {
	for _, dir := range c.dirs {
		unix.Close(dir.fd)
	}
	for _, fd := range c.trees {
		unix.Close(fd)
	}
}

// mapCopies makes one copy for all directories on the same mount, and opens them there.
func mapCopies(dirs []string, ns *os.File) (*mountCopies, error) {
	above, places, err := commonDirs(dirs)
	if err != nil {
		return nil, err
	}
	c := &mountCopies{}
	index := map[uint64]int{}
	for i, dir := range dirs {
		root := above[places[i].mount]
		tree, known := index[places[i].mount]
		if !known {
			tree = -1
			if at, err := placeOf(root); err == nil && at.mount == places[i].mount {
				if tree, err = c.add(root, ns); err != nil {
					c.close()
					return nil, err
				}
			}
			index[places[i].mount] = tree
		}
		if tree >= 0 && c.open(tree, strings.TrimPrefix(strings.TrimPrefix(dir, root), "/"), places[i]) {
			continue
		}
		// The directory is a mount itself, or the way there leads over a symlink or
		// another mount.
		if tree, err = c.add(dir, ns); err == nil && !c.open(tree, ".", places[i]) {
			err = fmt.Errorf("lower directory %s: %w: another directory was put in its place", dir, errdefs.ErrBusy)
		}
		if err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// add makes a copy and returns its index.
func (c *mountCopies) add(dir string, ns *os.File) (int, error) {
	fd, err := mapCopy(dir, ns)
	if err != nil {
		return -1, err
	}
	c.trees = append(c.trees, fd)
	return len(c.trees) - 1, nil
}

// open opens a directory in a copy, if it is the one at that place. What is mounted
// beneath the original isn't in a copy, where a path can so lead elsewhere.
func (c *mountCopies) open(tree int, rel string, at place) bool {
	fd, err := openat.SameMount(c.trees[tree], rel, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO, &st); err != nil || !at.is(st) {
		unix.Close(fd)
		return false
	}
	c.dirs = append(c.dirs, mappedDir{tree, rel, fd})
	return true
}

// mapCopy makes a detached copy of the mount that a directory lies on, showing that
// directory, with owners translated.
func mapCopy(dir string, ns *os.File) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, unsupported(fmt.Errorf("open_tree %s: %w", dir, err))
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Propagation: unix.MS_PRIVATE, Userns_fd: uint64(ns.Fd())}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		return -1, unsupported(fmt.Errorf("map the owners in %s: mount_setattr: %w", dir, err))
	}
	return fd, nil
}

// unsupported marks what a kernel or a file system says that can't map owners.
func unsupported(err error) error {
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: %w", errdefs.ErrUnsupported, err)
	}
	return err
}

// place is the mount that a directory lies on, and what tells it from others there.
type place struct {
	mount        uint64
	major, minor uint32
	ino          uint64
}

func placeOf(path string) (place, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID|unix.STATX_INO, &st); err != nil {
		return place{}, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return place{st.Mnt_id, st.Dev_major, st.Dev_minor, st.Ino}, nil
}

func (p place) is(st unix.Statx_t) bool {
	return st.Ino == p.ino && st.Dev_major == p.major && st.Dev_minor == p.minor
}

// commonDirs returns where each directory lies and, for each mount, the directory above
// all of those.
func commonDirs(dirs []string) (above map[uint64]string, places []place, err error) {
	above = map[uint64]string{}
	for _, dir := range dirs {
		at, err := placeOf(dir)
		if err != nil {
			return nil, nil, fmt.Errorf("lower directory: %w", err)
		}
		places = append(places, at)
		common, known := above[at.mount]
		if !known {
			common = filepath.Dir(dir)
		}
		for common != "/" && !strings.HasPrefix(dir, common+"/") {
			common = filepath.Dir(common)
		}
		above[at.mount] = common
	}
	return above, places, nil
}

// byDetachedCopies hands the directories over as descriptors.
func byDetachedCopies(s Spec, c *mountCopies) error {
	fds := make([]int, 0, len(s.Lower))
	for _, dir := range s.Lower[:s.Unmapped] {
		fd, err := openPath(dir, 0)
		if err != nil {
			return fmt.Errorf("lower directory %s: %w", dir, err)
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	for _, dir := range c.dirs {
		fds = append(fds, dir.fd)
	}
	mnt, err := detached(s, false, fds)
	if err != nil {
		return err
	}
	defer unix.Close(mnt)
	return moveTo(mnt, s.Target)
}

// byAttachedCopies mounts the copies in s.MapDir and goes by path. They are unmounted
// before it returns.
func byAttachedCopies(s Spec, c *mountCopies) (err error) {
	if s.MapDir == "" {
		return fmt.Errorf(
			"%w: this kernel takes lower directories of attached mounts only, and there is no place for these",
			errdefs.ErrUnsupported)
	}
	if err := os.MkdirAll(s.MapDir, 0o700); err != nil {
		return err
	}
	points := make([]string, len(c.trees))
	for n, tree := range c.trees {
		points[n] = filepath.Join(s.MapDir, strconv.Itoa(n))
		if err := os.Mkdir(points[n], 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := moveTo(tree, points[n]); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, Unmount(points[n])) }()
	}
	lower := append([]string(nil), s.Lower[:s.Unmapped]...)
	for _, dir := range c.dirs {
		lower = append(lower, filepath.Join(points[dir.tree], dir.rel))
	}
	s.Lower = lower
	if err = byContext(s, false); errors.Is(err, errNoContextAPI) || errors.Is(err, unix.EINVAL) {
		err = classic(s)
	}
	return err
}
