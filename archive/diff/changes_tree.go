package diff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/shalestore/shale/archive/internal/layerdir"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/dirent"
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
	c := treeCompare{opts: opts, newXattrs: xattr.NewReader(), oldXattrs: xattr.NewReader()}
	if c.new, err = layerdir.NewStack(root); err != nil {
		return nil, err
	}
	defer c.new.Close()
	inBoth := false
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
		inBoth = true
	}
	if err := c.compare(ctx, inBoth); err != nil {
		return nil, err
	}
	return c.changes.list, nil
}

// treeCompare walks two trees side by side, with a stack of its own so that depth is no
// concern.
type treeCompare struct {
	opts                 Options
	new, old             *layerdir.Stack
	frames               []compareFrame
	prefix               []byte // path of the current directory with a final slash
	changes              changeList
	newXattrs, oldXattrs *xattr.Reader
}

type compareFrame struct {
	new, old []dirent.Entry // what is left to look at, ascending
	inBoth   bool           // whether the old tree has the directory
	gone     []string       // names that only the old tree has
	base     int            // length of the prefix above
	// entry is where the directory's own Modified stands in the list, put there in case
	// something inside differs; -1 when it was listed on its own account, or is the root.
	entry int
}

func (c *treeCompare) compare(ctx context.Context, inBoth bool) error {
	if err := c.enter(inBoth, -1); err != nil {
		return err
	}
	for len(c.frames) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		f := &c.frames[len(c.frames)-1]
		var newOne, oldOne *dirent.Entry
		switch {
		case len(f.new) == 0 && len(f.old) == 0:
			if err := c.leave(); err != nil {
				return err
			}
			continue
		case len(f.old) == 0 || (len(f.new) > 0 && f.new[0].Name < f.old[0].Name):
			newOne, f.new = &f.new[0], f.new[1:]
		case len(f.new) == 0 || f.new[0].Name > f.old[0].Name:
			oldOne, f.old = &f.old[0], f.old[1:]
		default:
			newOne, f.new = &f.new[0], f.new[1:]
			oldOne, f.old = &f.old[0], f.old[1:]
			if newOne.Ino == oldOne.Ino && c.new.Device() == c.old.Device() {
				continue
			}
		}
		if err := c.visit(newOne, oldOne); err != nil {
			return err
		}
	}
	return nil
}

// visit compares one name; of the two, what is nil isn't there.
func (c *treeCompare) visit(newOne, oldOne *dirent.Entry) error {
	f := &c.frames[len(c.frames)-1]
	var newSt, oldSt unix.Stat_t
	var name string
	if newOne != nil {
		name = newOne.Name
		// An addition's type is all that matters; mostly the directory told it.
		if oldOne == nil && newOne.Type != unix.DT_UNKNOWN {
			newSt.Mode = uint32(newOne.Type) << 12
		} else if err := layerdir.StatAt(c.new.Top().FD, name, &newSt); layerdir.Absent(err) {
			newOne = nil
		} else if err != nil {
			return fmt.Errorf("%s%s: %w", c.dir(), name, err)
		}
	}
	if oldOne != nil {
		name = oldOne.Name
		if newOne != nil {
			if err := layerdir.StatAt(c.old.Top().FD, name, &oldSt); layerdir.Absent(err) {
				oldOne = nil
			} else if err != nil {
				return fmt.Errorf("%s%s in the old tree: %w", c.dir(), name, err)
			}
		}
	}
	switch {
	case newOne == nil && oldOne == nil:
		return nil
	case newOne == nil:
		f.gone = append(f.gone, name)
		return nil
	}
	if len(c.prefix)+len(name) > layerdir.PathMax {
		return fmt.Errorf("directory /%.80s...: %w: path of more than %d bytes", c.prefix, errdefs.ErrInvalid,
			layerdir.PathMax)
	}
	path := c.dir() + name
	entry := -1
	if oldOne == nil {
		if err := c.changes.add(path, Added); err != nil {
			return err
		}
	} else {
		same, err := c.same(name, &newSt, &oldSt)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if same && layerdir.IsDir(&newSt) {
			entry = len(c.changes.list)
		}
		if !same || layerdir.IsDir(&newSt) {
			if err := c.changes.add(path, Modified); err != nil {
				return err
			}
		}
	}
	if !layerdir.IsDir(&newSt) {
		return nil
	}
	inBoth := oldOne != nil && layerdir.IsDir(&oldSt)
	if err := c.new.Push(name); err != nil {
		if layerdir.Absent(err) {
			return nil
		}
		return fmt.Errorf("open directory %s: %w", path, err)
	}
	if inBoth {
		if err := c.old.Push(name); err != nil {
			return fmt.Errorf("open directory %s in the old tree: %w", path, err)
		}
	}
	base := len(c.prefix)
	c.prefix = append(append(c.prefix, name...), '/')
	if err := c.enter(inBoth, entry); err != nil {
		return err
	}
	c.frames[len(c.frames)-1].base = base
	return nil
}

// dir is the path of the current directory with a final slash, absolute within the layer.
func (c *treeCompare) dir() string { return "/" + string(c.prefix) }

// enter reads the directories that the stacks have just gone down to.
func (c *treeCompare) enter(inBoth bool, entry int) (err error) {
	f := compareFrame{inBoth: inBoth, entry: entry}
	if f.new, err = dirent.List(c.new.Top().FD); err != nil {
		return fmt.Errorf("read directory %s: %w", c.dir(), err)
	}
	if inBoth {
		if f.old, err = dirent.List(c.old.Top().FD); err != nil {
			return fmt.Errorf("read directory %s in the old tree: %w", c.dir(), err)
		}
	}
	c.frames = append(c.frames, f)
	return nil
}

// leave finishes a directory: its deletions, and whether it needs to be listed for what
// is in it.
func (c *treeCompare) leave() error {
	f := c.frames[len(c.frames)-1]
	for _, name := range f.gone {
		if err := c.changes.add(c.dir()+name, Deleted); err != nil {
			return err
		}
	}
	if f.entry >= 0 && f.entry == len(c.changes.list)-1 {
		c.changes.cut()
	}
	c.frames = c.frames[:len(c.frames)-1]
	if len(c.frames) == 0 {
		return nil
	}
	path := strings.TrimSuffix(c.dir(), "/")
	c.prefix = c.prefix[:f.base]
	if err := c.new.Pop(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if f.inBoth {
		if err := c.old.Pop(); err != nil {
			return fmt.Errorf("%s in the old tree: %w", path, err)
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
	newFD, oldFD := c.new.Top().FD, c.old.Top().FD
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
	same, err := c.sameXattrs(xattr.At(newFD, name), xattr.At(oldFD, name))
	return same, layerdir.IgnoreAbsent(err)
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

// sameXattrs compares the attributes that count: the file capability and all of user.*.
func (c *treeCompare) sameXattrs(newFile, oldFile xattr.File) (bool, error) {
	newNames, err := c.newXattrs.List(newFile)
	if err != nil {
		return false, err
	}
	oldNames, err := c.oldXattrs.List(oldFile)
	if err != nil {
		return false, err
	}
	compared := func(names []byte) (n int) {
		for name := range xattr.All(names) {
			if comparedXattr(name) {
				n++
			}
		}
		return n
	}
	if n := compared(newNames); n != compared(oldNames) {
		return false, nil
	} else if n == 0 {
		return true, nil
	}
	// Equal numbers of names, so it is enough that each new one has its like among the
	// old.
	for raw := range xattr.All(newNames) {
		if !comparedXattr(raw) {
			continue
		}
		name := string(raw)
		newValue, inNew, err := c.newXattrs.Get(newFile, name)
		if errors.Is(err, unix.E2BIG) {
			continue
		} else if err != nil {
			return false, err
		}
		oldValue, inOld, err := c.oldXattrs.Get(oldFile, name)
		if err != nil {
			return false, err
		}
		if name == "security.capability" {
			if newValue, err = containerCapability(newValue, c.opts.IDMap); err != nil {
				return false, err
			}
			if oldValue, err = containerCapability(oldValue, c.opts.OldIDMap); err != nil {
				return false, err
			}
		}
		if inNew != inOld || !bytes.Equal(newValue, oldValue) {
			return false, nil
		}
	}
	return true, nil
}

func comparedXattr(name []byte) bool {
	return bytes.HasPrefix(name, []byte("user.")) || string(name) == "security.capability"
}
