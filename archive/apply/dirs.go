package apply

import (
	"container/list"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/internal/dirent"
	"github.com/shalestore/shale/internal/layerdir"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// tree is the layer's directory tree as the planner sees it: directories held open by
// descriptor, found by path.
//
// A path from an archive is never given to the kernel whole. It is walked a component at
// a time, each opened by openat2(2) below its parent's descriptor and never through a
// symlink; where a component is a symlink, its target is walked the same way, with the
// layer's own root as "/" and nothing above it. So an archive's symlinks lead nowhere but
// to other places of the layer, as they will in the container, and a symlink put in the
// place of a directory after that was opened changes nothing for those who hold its
// descriptor.
//
// The descriptors are kept, at most limit of them. What is known about a directory beyond
// its descriptor (facts) is kept by inode number, so that it survives the closing of the
// descriptor; while the descriptor is open, or the directory exists, nobody else has that
// number.
type tree struct {
	a        *applier
	root     *directory
	limit    int
	open     map[uint64]*directory // by inode number
	paths    map[string]*directory // by path without symlinks in it; "" is the root
	aliases  map[string]*directory // by path with symlinks in it
	recent   *list.List            // of *directory, the one used last in front
	facts    map[uint64]dirFacts
	reviving bool // whether find makes directories in place of whiteouts
}

// directory is an open directory of the layer.
type directory struct {
	fd    int
	ino   uint64
	path  string
	refs  atomic.Int32 // files being written in it, and the planner's own holds
	place *list.Element
	alias []string
	dirFacts
	// As fstat(2) has it, or as it was set since. New files get the group when the
	// directory has the setgid bit.
	uid, gid, mode uint32
	// times, when an entry has set them, are put on when the descriptor is closed: every
	// file made in a directory changes them.
	times [2]unix.Timespec
}

// dirFacts are what has to be known of a directory for as long as the apply lasts.
type dirFacts struct {
	fresh bool // made by this apply: no name is in it that the planner has not put there
	timed bool // an entry has set its times
	acl   bool // it has a default ACL, which new files inherit and the archive's files must not
}

func (d *directory) hold() *directory { d.refs.Add(1); return d }

func (d *directory) release() { d.refs.Add(-1) }

// maxSymlinks is how many symlinks one path may lead through; more are a loop.
const maxSymlinks = 255

// openDirs is how many directories are kept open at most.
const openDirs = 256

func newTree(a *applier, path string) (*tree, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	t := &tree{
		a:       a,
		limit:   openDirs,
		open:    make(map[uint64]*directory),
		paths:   make(map[string]*directory),
		aliases: make(map[string]*directory),
		recent:  list.New(),
		facts:   make(map[uint64]dirFacts),
	}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil && files.Cur/4 < openDirs {
		t.limit = int(files.Cur/4) + 1
	}
	empty, err := dirent.Empty(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	root, err := t.adopt(fd, "", dirFacts{fresh: empty}, empty)
	if err != nil {
		return nil, err
	}
	t.root = root.hold() // for good
	return t, nil
}

// find opens the directory at path, which is clean and relative to the layer's root, and
// holds it. Symlinks are followed within the layer. With create, directories that don't
// exist are made.
func (t *tree) find(path string, create bool) (*directory, error) {
	if d := t.paths[path]; d != nil {
		return t.touch(d), nil
	}
	if d := t.aliases[path]; d != nil {
		return t.touch(d), nil
	}
	start, rest := t.root, path
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		if d := t.paths[path[:i]]; d != nil {
			start, rest = d, path[i+1:]
		} else if d := t.aliases[path[:i]]; d != nil {
			start, rest = d, path[i+1:]
		}
	}
	links := 0
	d, err := t.walk(start.hold(), rest, create, &links)
	if err != nil {
		return nil, err
	}
	if d.path != path && len(t.aliases) < 4*openDirs {
		t.aliases[path] = d
		d.alias = append(d.alias, path)
	}
	return d, nil
}

func (t *tree) touch(d *directory) *directory {
	t.recent.MoveToFront(d.place)
	return d.hold()
}

// walk goes from the held directory cur along path and returns where it ends, held. It
// takes the hold on cur over.
func (t *tree) walk(cur *directory, path string, create bool, links *int) (*directory, error) {
	for path != "" {
		name, rest, _ := strings.Cut(path, "/")
		path = rest
		var next *directory
		var err error
		switch name {
		case "", ".":
			continue
		case "..":
			// cur.path has no symlinks in it, so that cutting off its last component is
			// what ".." means. Nothing is above the root.
			up, _, _ := tarstream.CutLast(cur.path)
			next, err = t.walk(t.root.hold(), up, false, links)
		default:
			var target string
			next, target, err = t.step(cur, name, create)
			if err == nil && next == nil {
				if *links++; *links > maxSymlinks {
					err = fmt.Errorf("%s: %w", shown(name), unix.ELOOP)
					break
				}
				from := cur
				if strings.HasPrefix(target, "/") {
					from = t.root
				}
				next, err = t.walk(from.hold(), target, create, links)
			}
		}
		cur.release()
		if err != nil {
			return nil, err
		}
		cur = next
	}
	return cur, nil
}

// step opens name in d. For a symlink it returns the target instead.
func (t *tree) step(d *directory, name string, create bool) (*directory, string, error) {
	path := joinPath(d.path, name)
	if child := t.paths[path]; child != nil {
		return t.touch(child), "", nil
	}
	if err := t.a.writers.finish(d, name); err != nil {
		return nil, "", err
	}
	fd, err := openat.Dir(d.fd, name)
	made := false
	if errors.Is(err, unix.ENOENT) && create {
		if err := t.a.makeParent(d, name); err != nil {
			return nil, "", fmt.Errorf("make directory %s: %w", shown(path), err)
		}
		made = true
		fd, err = openat.Dir(d.fd, name)
	}
	switch {
	case err == nil:
		if create {
			t.a.take(d, name)
		}
		child, err := t.adopt(fd, path, dirFacts{fresh: made}, made)
		if err != nil {
			return nil, "", err
		}
		return child.hold(), "", nil
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		if create && t.reviving {
			if revived, err := t.a.revive(d, name); err != nil {
				return nil, "", fmt.Errorf("make directory %s: %w", shown(path), err)
			} else if revived {
				return t.step(d, name, create)
			}
		}
		target, err := layerdir.ReadlinkAt(d.fd, name)
		if errors.Is(err, unix.EINVAL) {
			err = unix.ENOTDIR
		}
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", shown(path), err)
		}
		return nil, target, nil
	}
	return nil, "", fmt.Errorf("open directory %s: %w", shown(path), err)
}

// adopt takes the descriptor of a directory over. known says that facts are all there is
// to know; else what was kept of the directory, and what can be seen of it, counts.
func (t *tree) adopt(fd int, path string, facts dirFacts, known bool) (*directory, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if d := t.open[st.Ino]; d != nil {
		unix.Close(fd)
		d.path = path
		t.paths[path] = d
		t.recent.MoveToFront(d.place)
		return d, nil
	}
	if err := t.makeRoom(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if !known {
		if kept, ok := t.facts[st.Ino]; ok {
			facts = kept
		} else {
			n, err := xattr.Open(fd).Size(xattr.DefaultACL)
			facts.acl = err == nil && n > 0
		}
	}
	d := &directory{fd: fd, ino: st.Ino, path: path, dirFacts: facts, uid: st.Uid, gid: st.Gid, mode: st.Mode & 0o7777,
		times: [2]unix.Timespec{st.Atim, st.Mtim}}
	d.place = t.recent.PushFront(d)
	t.open[st.Ino] = d
	t.paths[path] = d
	t.remember(d)
	return d, nil
}

// remember keeps the facts of d beyond the closing of its descriptor.
func (t *tree) remember(d *directory) { t.facts[d.ino] = d.dirFacts }

// makeRoom closes directories until one more may be opened.
func (t *tree) makeRoom() error {
	for drained := false; len(t.open) >= t.limit; {
		e := t.recent.Back()
		for e != nil && e.Value.(*directory).refs.Load() > 0 {
			e = e.Prev()
		}
		if e != nil {
			if err := t.closeDir(e.Value.(*directory)); err != nil {
				return err
			}
			continue
		}
		if drained {
			return nil // all of them are held by one walk; the limit is not a hard one
		}
		drained = true
		if err := t.a.writers.drain(); err != nil {
			return err
		}
	}
	return nil
}

// closeDir puts the times on d and closes it. Nobody may be working in it.
func (t *tree) closeDir(d *directory) error {
	delete(t.open, d.ino)
	if t.paths[d.path] == d {
		delete(t.paths, d.path)
	}
	for _, a := range d.alias {
		if t.aliases[a] == d {
			delete(t.aliases, a)
		}
	}
	t.recent.Remove(d.place)
	var err error
	if d.timed {
		if err = futimens(d.fd, &d.times); err != nil {
			err = fmt.Errorf("set times of directory %q: %w", d.path, err)
		}
	}
	unix.Close(d.fd)
	return err
}

// forgetPaths makes the next find walk again, because a directory or symlink has gone
// from its name. Descriptors stay open.
func (t *tree) forgetPaths() {
	clear(t.aliases)
	clear(t.paths)
	for _, d := range t.open {
		d.alias = nil
	}
	t.root.path = ""
	t.paths[""] = t.root
}

// close closes all directories. After an error only the descriptors matter.
func (t *tree) close() error {
	var errs []error
	for _, d := range t.open {
		errs = append(errs, t.closeDir(d))
	}
	return errors.Join(errs...)
}

// joinPath appends a component to a path; "" is the root.
func joinPath(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
