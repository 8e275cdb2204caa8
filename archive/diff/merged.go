package diff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/internal/layerdir"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// Where an upper directory doesn't tell everything (redirect_dir, metacopy, a mount
// program), it still tells which names to look at. What stands there is then asked of the
// mounted layer, and what stood there before of the mounted parent, so that the cost
// follows the size of the change and not that of the layers.

// MergedLayer says where a layer is to be read.
type MergedLayer struct {
	// Upper is the directory that a mount has written to.
	Upper string
	// Merged is the whole layer, mounted.
	Merged string
	// Parent is the whole parent, mounted; "" for none.
	Parent string
}

// WriteMerged writes the uncompressed layer tar of an upper directory with redirects,
// metacopies or the books of a mount program to w. It is what WriteOverlay is where
// the upper alone can't be read:
//
//   - a file without its data (metacopy) goes with the data that the mount shows;
//   - a directory with a redirect is new under its name, and goes whole, with
//     .wh..wh..opq if the parent has something of that name;
//   - a name of the upper that the mount doesn't show is a whiteout, in whatever form.
//
// Owners are those that Merged shows. Errors are those of WriteOverlay, except that
// nothing is unsupported.
func WriteMerged(ctx context.Context, w io.Writer, layer MergedLayer, opts Options) error {
	m, err := openMerged(layer)
	if err != nil {
		return err
	}
	defer m.close()
	p := &packing{opts: opts, lowers: m.parent}
	return p.write(ctx, w, func(ctx context.Context, emit func(entry, int64) error) error {
		return m.each(ctx, func(f found) error {
			if f.as == gone {
				return emitDeletion(f.path, emit)
			}
			if ok, err := p.carriesPath(f.path); !ok {
				return err
			}
			return p.emitFile(f.dir, f.name, f.path, &f.st, f.as == instead, emit)
		})
	})
}

// MergedChanges lists what an upper directory changes in the parent, by the rules of
// OverlayChanges; a directory with a redirect counts as opaque.
func MergedChanges(ctx context.Context, layer MergedLayer) ([]Change, error) {
	m, err := openMerged(layer)
	if err != nil {
		return nil, err
	}
	defer m.close()
	l := mergedList{parent: m.parent}
	if err := m.each(ctx, l.add); err != nil {
		return nil, err
	}
	return l.changes.list, nil
}

// found is what an upper directory and the mount together say about a name.
type found struct {
	as   foundAs
	path string // in the layer, without a leading slash
	// dir and name tell where it lies in the mount, and st what it is there; nothing for
	// what is gone.
	dir  *layerdir.Dir
	name string
	st   unix.Stat_t
}

type foundAs uint8

const (
	present foundAs = iota
	gone
	// instead is a directory that shows nothing of what the parent has under its name,
	// and inside is what such a one holds.
	instead
	inside
)

// merged is a mounted layer beside its upper directory.
type merged struct {
	upper, root *layerdir.Dir
	parent      *layerdir.Lowers
	dirs        parentDirs
	xattrs      *xattr.Reader
}

func openMerged(layer MergedLayer) (*merged, error) {
	m := &merged{xattrs: xattr.NewReader(), parent: &layerdir.Lowers{}}
	var err error
	if m.upper, err = layerdir.OpenRoot(layer.Upper); err != nil {
		return nil, err
	}
	if m.root, err = layerdir.OpenRoot(layer.Merged); err != nil {
		m.close()
		return nil, err
	}
	m.dirs.root = m.root
	if layer.Parent == "" {
		return m, nil
	}
	if m.parent, err = layerdir.OpenLowers([]string{layer.Parent}); err != nil {
		m.parent = &layerdir.Lowers{}
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *merged) close() {
	m.dirs.close()
	m.parent.Close()
	for _, dir := range []*layerdir.Dir{m.upper, m.root} {
		if dir != nil {
			dir.Release()
		}
	}
}

// each calls visit for every name of the upper, in the order of a walk, and for
// everything in directories that stand instead of the parent's.
func (m *merged) each(ctx context.Context, visit func(found) error) error {
	w, err := layerdir.NewWalk(m.upper)
	if err != nil {
		return err
	}
	defer w.Close()
	for w.Next(ctx) {
		f, err := m.find(w)
		if err != nil {
			return fmt.Errorf("/%s: %w", w.Path, err)
		}
		if f == nil {
			continue
		}
		if err := visit(*f); err != nil {
			return err
		}
		switch {
		case f.as == instead:
			if err := m.whole(ctx, *f, visit); err != nil {
				return err
			}
		case f.as == present && layerdir.IsDir(&f.st) && w.Type == unix.DT_DIR:
			w.Descend()
		}
	}
	return w.Err
}

// find asks the mount about the walk's current name. It returns nil for what says nothing
// about the layer.
func (m *merged) find(w *layerdir.Walk) (*found, error) {
	f := &found{path: w.Path, name: w.Name}
	var err error
	if f.dir, err = m.dirs.open(w.Parent()); layerdir.Absent(err) {
		return nil, nil // the directory goes as we come by
	} else if err != nil {
		return nil, fmt.Errorf("open its directory in the mount: %w", err)
	}
	if err = layerdir.StatAt(f.dir.FD, w.Name, &f.st); layerdir.Absent(err) {
		return m.hidden(w, f)
	} else if errors.Is(err, unix.EPERM) {
		// The kernel answers this to a metacopy in a mount that isn't to follow any.
		return nil,
			fmt.Errorf("look it up in the mount: %w: the layer was written with mount option metacopy=on, which "+
				"is needed to read it as well", err)
	} else if err != nil {
		return nil, fmt.Errorf("look it up in the mount: %w", err)
	}
	if w.Type == unix.DT_DIR && layerdir.IsDir(&f.st) {
		if replaced, err := m.replaces(w); err != nil {
			return nil, err
		} else if replaced {
			f.as = instead
		}
	}
	return f, nil
}

// hidden judges a name that the upper has and the mount doesn't show: a whiteout, unless
// it has just vanished from both. Programs that can't make devices make files with the
// prefix that layer tars have.
func (m *merged) hidden(w *layerdir.Walk, f *found) (*found, error) {
	if err := layerdir.StatAt(w.Dir.FD, w.Name, &f.st); layerdir.Absent(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if w.Name == archive.WhiteoutOpaque {
		return nil, nil // replaces has seen it
	}
	f.as = gone
	if base, ok := strings.CutPrefix(w.Name, archive.WhiteoutPrefix); ok && base != "" && w.Type == unix.DT_REG {
		var st unix.Stat_t
		if layerdir.StatAt(f.dir.FD, base, &st) == nil {
			return nil, nil // there again
		}
		f.path = w.Parent() + base
	}
	return f, nil
}

// replaces reports whether a directory of the upper hides what the parent has under its
// name: it is opaque, in any of the forms that there are, or redirected. The kernel's own
// attributes can be told from those that a container's user has set by their prefix only,
// but nothing depends on that: of a directory that is taken for one that replaces, the
// mount shows everything, and everything is listed.
func (m *merged) replaces(w *layerdir.Walk) (bool, error) {
	file := xattr.At(w.Dir.FD, w.Name)
	names, err := m.xattrs.List(file)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for raw := range xattr.All(names) {
		name, opaque := string(raw), false
		switch name {
		case "trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque":
			opaque = true
		case "trusted.overlay.redirect", "user.overlay.redirect":
		default:
			continue
		}
		value, there, err := m.xattrs.Get(file, name)
		if err != nil {
			return false, err
		}
		// A directory that was renamed and came back leads to itself, by its name or by
		// its path.
		if there && (opaque && string(value) == "y" ||
			!opaque && string(value) != w.Name && string(value) != "/"+w.Path) {
			return true, nil
		}
	}
	var st unix.Stat_t
	return layerdir.StatAt(w.Dir.FD, w.Name+"/"+archive.WhiteoutOpaque, &st) == nil, nil
}

// whole visits everything in a directory as the mount shows it.
func (m *merged) whole(ctx context.Context, top found, visit func(found) error) error {
	fd, err := layerdir.OpenDirAt(top.dir.FD, top.name)
	if layerdir.Absent(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("open /%s in the mount: %w", top.path, err)
	}
	root := layerdir.NewDir(fd)
	defer root.Release()
	w, err := layerdir.NewWalk(root)
	if err != nil {
		return fmt.Errorf("read /%s in the mount: %w", top.path, err)
	}
	defer w.Close()
	w.Beneath(top.path)
	for w.Next(ctx) {
		if err := w.Stat(); layerdir.Absent(err) {
			continue
		} else if err != nil {
			return err
		}
		if err := visit(found{as: inside, path: w.Path, dir: w.Dir, name: w.Name, st: w.St}); err != nil {
			return err
		}
		if layerdir.IsDir(&w.St) {
			w.Descend()
		}
	}
	return w.Err
}

// mergedList is a change list in the making.
type mergedList struct {
	parent  *layerdir.Lowers
	changes changeList
}

// before is what the parent has under a name, by links on the way to it if there are any.
func (l *mergedList) before(name string) (st unix.Stat_t, ok bool) {
	if len(l.parent.FDs) == 0 {
		return st, false
	}
	dir, base := path.Split(name)
	fd, err := openat.InRoot(l.parent.FDs[0], dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return st, false
	}
	defer unix.Close(fd)
	err = layerdir.StatAt(fd, base, &st)
	return st, err == nil
}

func (l *mergedList) add(f found) error {
	kind, listed := Added, true
	before, was := l.before(f.path)
	switch {
	case f.as == gone:
		kind = Deleted
	case was:
		kind = Modified
		listed = f.as == instead || !layerdir.IsDir(&f.st) || !layerdir.IsDir(&before) || !sameDir(&f.st, &before)
	}
	dir := f.as != gone && layerdir.IsDir(&f.st)
	if err := l.changes.enter(f.path, kind, listed, dir); err != nil || !dir || f.as == present {
		return err
	}
	hidden, err := hiddenNames(l.parent, f.dir, f.name, f.path, "")
	for _, name := range hidden {
		if err := l.changes.enter(f.path+"/"+name, Deleted, true, false); err != nil {
			return err
		}
	}
	return err
}
