package diff

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/dirent"
	"github.com/shalestore/shale/internal/layerdir"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// TreeChanges lists what makes newDir out of oldDir, by comparing the two trees as they
// are mounted. With oldDir "" everything is Added.
//
// An entry is Modified when mode, type, owner (through the options' ID maps), device
// number, size (not of directories), modification time, link target, file capability or a
// user.* attribute differ; times are equal as well when one of them has no fraction of a
// second. Change time, inode and content are not looked at: they tell nothing about
// copies, and too much to read. What has the same inode in both trees is the same. A
// directory with changes inside is Modified, whatever it looks like itself. Of what is
// Deleted, or replaced by something that is no directory, only the top is listed.
//
// The kinds are those of containers/storage, whose order is that of a Go map. Here each
// directory stands before its content, names ascend by bytes, and a directory's Deleted
// names come after the others.
func TreeChanges(ctx context.Context, newDir, oldDir string, opts Options) ([]Change, error) {
	root, err := layerdir.OpenRoot(newDir)
	if err != nil {
		return nil, err
	}
	defer root.Release()
	c := treeCompare{opts: opts, xattrs: xattr.NewReader(), changes: changeList{inside: true}}
	if c.Walk, err = layerdir.NewWalk(root); err != nil {
		return nil, fmt.Errorf("read directory %s: %w", newDir, err)
	}
	defer c.Close()
	c.levels = make([]compareLevel, 1)
	if oldDir != "" {
		old, err := layerdir.OpenRoot(oldDir)
		if err != nil {
			return nil, err
		}
		defer old.Release()
		if c.old, err = layerdir.NewStack(old); err != nil {
			return nil, err
		}
		defer c.old.Close()
		if c.levels[0].old, err = dirent.List(old.FD); err != nil {
			return nil, fmt.Errorf("read directory %s: %w", oldDir, err)
		}
	}
	for c.Next(ctx) {
		if err := c.leave(c.Depth() + 1); err != nil {
			return nil, err
		}
		if err := c.visit(); err != nil {
			return nil, fmt.Errorf("/%.4000s: %w", c.Path, err)
		}
	}
	if c.Err != nil {
		return nil, c.Err
	}
	return c.changes.list, c.leave(0)
}

// treeCompare walks the new tree, and beside it those directories of the old one that
// have the same names.
type treeCompare struct {
	*layerdir.Walk
	old     *layerdir.Stack
	opts    Options
	levels  []compareLevel // the directories on the way down
	last    string         // the path of the name compared last
	changes changeList
	xattrs  *xattr.Reader
}

// compareLevel is a directory of the new tree.
type compareLevel struct {
	end    int            // of its path
	inBoth bool           // the old tree has it too, and its stack has gone down to it
	old    []dirent.Entry // what is left to look at there, ascending
	gone   []string       // names that only the old tree has
}

// visit compares the walk's current name.
func (c *treeCompare) visit() error {
	here := &c.levels[len(c.levels)-1]
	c.last = c.Path
	for ; len(here.old) > 0 && here.old[0].Name < c.Name; here.old = here.old[1:] {
		here.gone = append(here.gone, here.old[0].Name)
	}
	var oldSt unix.Stat_t
	kind, listed, isDir := Added, true, c.Type == unix.DT_DIR // of what is new, nothing else matters
	if len(here.old) > 0 && here.old[0].Name == c.Name {
		ino := here.old[0].Ino
		here.old = here.old[1:]
		if ino == c.Siblings()[c.At()].Ino && c.Device() == c.old.Device() {
			return nil
		}
		if err := c.Stat(); layerdir.Absent(err) {
			here.gone = append(here.gone, c.Name)
			return nil
		} else if err != nil {
			return err
		}
		isDir = layerdir.IsDir(&c.St)
		if err := layerdir.StatAt(c.old.Top().FD, c.Name, &oldSt); err == nil {
			same, err := c.same(c.Name, &c.St, &oldSt)
			if err != nil {
				return err
			}
			kind, listed = Modified, !same
		} else if !layerdir.Absent(err) {
			return fmt.Errorf("in the old tree: %w", err)
		}
	}
	if err := c.changes.enter(c.Path, kind, listed, isDir); err != nil || !isDir {
		return err
	}
	next := compareLevel{end: len(c.Path), inBoth: layerdir.IsDir(&oldSt)}
	if next.inBoth {
		err := c.old.Push(c.Name)
		if err == nil {
			next.old, err = dirent.List(c.old.Top().FD)
		}
		if err != nil {
			return fmt.Errorf("read directory in the old tree: %w", err)
		}
	}
	c.levels = append(c.levels, next)
	c.Descend()
	return nil
}

// leave finishes the directories from the given depth down: what only the old tree has in
// them comes last.
func (c *treeCompare) leave(depth int) error {
	for len(c.levels) > depth {
		l := c.levels[len(c.levels)-1]
		c.levels = c.levels[:len(c.levels)-1]
		for _, e := range l.old {
			l.gone = append(l.gone, e.Name)
		}
		for _, name := range l.gone {
			if err := c.changes.enter(path.Join(c.last[:l.end], name), Deleted, true, false); err != nil {
				return err
			}
		}
		if l.inBoth {
			if err := c.old.Pop(); err != nil {
				return fmt.Errorf("/%.4000s in the old tree: %w", c.last[:l.end], err)
			}
		}
	}
	return nil
}

// same reports whether an entry of both trees is unchanged.
func (c *treeCompare) same(name string, newSt, oldSt *unix.Stat_t) (bool, error) {
	if newSt.Mode != oldSt.Mode || newSt.Rdev != oldSt.Rdev || !sameTime(newSt.Mtim, oldSt.Mtim) ||
		(!layerdir.IsDir(newSt) && newSt.Size != oldSt.Size) || !c.sameOwner(newSt, oldSt) {
		return false, nil
	}
	newFD, oldFD := c.Dir.FD, c.old.Top().FD
	if newSt.Mode&unix.S_IFMT == unix.S_IFLNK {
		newTarget, err := layerdir.ReadlinkAt(newFD, name)
		if err != nil {
			return false, layerdir.IgnoreAbsent(err)
		}
		oldTarget, err := layerdir.ReadlinkAt(oldFD, name)
		if err != nil || newTarget != oldTarget {
			return false, layerdir.IgnoreAbsent(err)
		}
	}
	newOnes, err := c.compared(xattr.At(newFD, name), c.opts.IDMap)
	if err != nil {
		return false, layerdir.IgnoreAbsent(err)
	}
	oldOnes, err := c.compared(xattr.At(oldFD, name), c.opts.OldIDMap)
	return err == nil && maps.Equal(newOnes, oldOnes), layerdir.IgnoreAbsent(err)
}

func (c *treeCompare) sameOwner(newSt, oldSt *unix.Stat_t) bool {
	newUID, newGID, err := c.opts.IDMap.ToContainer(newSt.Uid, newSt.Gid)
	if err != nil { // outside the maps, owners can only be compared as they stand
		return newSt.Uid == oldSt.Uid && newSt.Gid == oldSt.Gid
	}
	oldUID, oldGID, err := c.opts.OldIDMap.ToContainer(oldSt.Uid, oldSt.Gid)
	if err != nil {
		oldUID, oldGID = oldSt.Uid, oldSt.Gid
	}
	return newUID == oldUID && newGID == oldGID
}

// compared reads the attributes that count: the file capability and all of user.*.
func (c *treeCompare) compared(file xattr.File, m idtools.Mapping) (map[string]string, error) {
	names, err := c.xattrs.List(file)
	if err != nil {
		return nil, err
	}
	var found map[string]string
	for raw := range xattr.All(names) {
		name := string(raw)
		if name != xattr.Capability && !strings.HasPrefix(name, "user.") {
			continue
		}
		value, there, err := c.xattrs.Get(file, name)
		if errors.Is(err, unix.E2BIG) { // larger than any read can ask for: a network file system's
			value, there, err = nil, true, nil
		}
		if err == nil && name == xattr.Capability {
			value, err = containerCapability(value, m)
		}
		if err != nil {
			return nil, err
		}
		if there {
			if found == nil {
				found = map[string]string{}
			}
			found[name] = string(value)
		}
	}
	return found, nil
}
