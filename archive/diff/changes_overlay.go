package diff

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/internal/layerdir"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// OverlayChanges lists what an overlay upper directory changes in its lowers, the
// parents' content directories, nearest first. It reads the upper alone and asks the
// lowers only about the names found there, so that its time follows the size of the
// change.
//
// The list is the one that containers/storage gives, kind by kind and in the same order,
// that of a walk with names in byte order:
//
//   - a whiteout is Deleted, in whatever form, and so is each name that an opaque
//     directory hides; the directory itself is Modified if a lower had the name, where
//     containers/storage lists it as Deleted, though it is there;
//   - a name that some lower has is Modified, unless a whiteout hides it; directories
//     that aren't opaque only if size, mode or time differ;
//   - everything else is Added;
//   - the directories above what is Added or Deleted are Modified, if they aren't listed
//     already.
//
// userXattr says in which form overlay's attributes are (mount option userxattr). It
// returns errdefs.ErrUnsupported when the upper holds redirects or metacopies;
// MergedChanges is then the way.
func OverlayChanges(ctx context.Context, upper string, lowers []string, userXattr bool) ([]Change, error) {
	up, err := layerdir.OpenRoot(upper)
	if err != nil {
		return nil, err
	}
	defer up.Release()
	low, err := layerdir.OpenLowers(lowers)
	if err != nil {
		return nil, err
	}
	defer low.Close()
	w, err := layerdir.NewWalk(up)
	if err != nil {
		return nil, fmt.Errorf("read directory %s: %w", upper, err)
	}
	defer w.Close()
	s := overlayScan{Walk: w, lowers: low, names: layerdir.OverlayNamesOf(userXattr), xattrs: xattr.NewReader()}
	all, err := low.Merged("", s.names.Opaque)
	if err != nil {
		return nil, err
	}
	s.levels = []overlayLevel{{below: all}}
	for w.Next(ctx) {
		if err := s.visit(); err != nil {
			return nil, fmt.Errorf("/%.4000s: %w", w.Path, err)
		}
	}
	return s.changes.list, w.Err
}

// overlayScan compares an upper with its lowers.
type overlayScan struct {
	*layerdir.Walk
	lowers  *layerdir.Lowers
	names   layerdir.OverlayNames
	xattrs  *xattr.Reader
	changes changeList
	levels  []overlayLevel // the directories on the way down
}

// overlayLevel is what is known of a directory of the upper. No lower directory stays
// open, so that 500 lowers and any depth cost no descriptors.
type overlayLevel struct {
	below []int // the lowers whose form of it counts, nearest first; a link there may lead to one
	alone bool  // it hides them
	known []sibling
}

// sibling is what the lowers have of one name of a directory.
type sibling struct {
	verdict
	below []int // as in overlayLevel, where the name is a directory's
}

type verdict uint8

const (
	isNew verdict = iota
	isModified
	isSame // a directory that is only there for what it holds
)

func (s *overlayScan) visit() (err error) {
	s.levels = s.levels[:s.Depth()+1]
	here := &s.levels[s.Depth()]
	if here.known == nil { // the first name of a directory: look all of them up together
		if here.known, err = s.lookUp(here.below); err != nil {
			return err
		}
	}
	before := here.known[s.At()]
	deleted, opaque, err := s.marks()
	if layerdir.Absent(err) {
		return nil
	} else if err != nil {
		return err
	}
	kind, listed := Added, true
	switch {
	case deleted:
		kind = Deleted
	case before.verdict != isNew:
		kind, listed = Modified, before.verdict == isModified || opaque
	}
	if err := s.changes.enter(s.Path, kind, listed, s.Type == unix.DT_DIR); err != nil || s.Type != unix.DT_DIR {
		return err
	}
	next := overlayLevel{below: before.below, alone: opaque || here.alone}
	if next.alone {
		if next.below, err = s.hidden(); err != nil {
			return err
		}
	}
	s.levels = append(s.levels, next)
	s.Descend()
	return nil
}

// marks tells whether the current entry is a whiteout, in whatever form, and whether it
// is an opaque directory. Without lowers there is nothing that overlay's attributes could
// point to.
func (s *overlayScan) marks() (deleted, opaque bool, err error) {
	switch {
	case s.Type == unix.DT_CHR:
		err = s.Stat()
		return err == nil && layerdir.IsWhiteout(&s.St), false, err
	case s.Type != unix.DT_DIR && s.Type != unix.DT_REG || len(s.lowers.FDs) == 0:
		return false, false, nil
	}
	marks, err := s.names.Marks(s.xattrs, xattr.At(s.Dir.FD, s.Name))
	if err != nil {
		return false, false, layerdir.IgnoreAbsent(err)
	}
	if s.Type == unix.DT_DIR {
		return false, marks.Opaque, nil
	}
	return marks.Whiteout && s.Stat() == nil && s.St.Size == 0, false, nil
}

// hidden lists what the current directory hides of its lowers' form, as Deleted, and
// tells in which lowers that is.
func (s *overlayScan) hidden() ([]int, error) {
	below, err := s.lowers.Merged(s.Path, s.names.Opaque)
	if err != nil {
		return nil, err
	}
	gone, err := hiddenNames(s.lowers, s.Dir, s.Name, s.Path, s.names.Opaque)
	for _, name := range gone {
		if err := s.changes.enter(s.Path+"/"+name, Deleted, true, false); err != nil {
			return nil, err
		}
	}
	return below, err
}

// hiddenNames are the names that the lowers have in a directory and the directory itself,
// name in dir, hasn't.
func hiddenNames(lowers *layerdir.Lowers, dir *layerdir.Dir, name, path, opaque string) (gone []string, err error) {
	all, err := lowers.Names(path, opaque)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	fd, err := openat.Dir(dir.FD, name)
	if err != nil {
		return nil, layerdir.IgnoreAbsent(err)
	}
	defer unix.Close(fd)
	for _, name := range all {
		var st unix.Stat_t
		if err := layerdir.StatAt(fd, name, &st); layerdir.Absent(err) {
			gone = append(gone, name)
		} else if err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// lookUp asks the lowers about all names of the current directory, opening it once in
// each of them.
func (s *overlayScan) lookUp(below []int) ([]sibling, error) {
	found, decided := make([]sibling, len(s.Siblings())), make([]bool, len(s.Siblings()))
	for n, l := range below {
		dir, err := openat.InRoot(s.lowers.FDs[l], s.Parent(), unix.O_PATH|unix.O_DIRECTORY)
		if layerdir.Absent(err) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("look up /%s in a lower directory: %w", s.Parent(), err)
		}
		err = s.lookUpIn(dir, l, found, decided)
		opaque := 0
		if n+1 < len(below) {
			opaque, _ = xattr.Held(dir).Size(s.names.Opaque)
		}
		unix.Close(dir)
		if err != nil || opaque == len("y") { // what lies deeper isn't shown
			return found, err
		}
	}
	return found, nil
}

// lookUpIn asks the l-th lower, whose form of the current directory is open as dir, about
// the names that no lower above it has decided.
func (s *overlayScan) lookUpIn(dir, l int, found []sibling, decided []bool) error {
	for i, e := range s.Siblings() {
		if decided[i] {
			continue
		}
		var st unix.Stat_t
		if err := layerdir.StatAt(dir, e.Name, &st); layerdir.Absent(err) {
			continue
		} else if err != nil {
			return fmt.Errorf("look up /%s%s in a lower directory: %w", s.Parent(), e.Name, err)
		}
		decided[i] = layerdir.IsWhiteout(&st) || e.Type != unix.DT_DIR && e.Type != unix.DT_UNKNOWN
		if layerdir.IsWhiteout(&st) {
			continue
		}
		if !decided[i] && (layerdir.IsDir(&st) || st.Mode&unix.S_IFMT == unix.S_IFLNK) {
			found[i].below = append(found[i].below, l)
		}
		if found[i].verdict == isNew {
			found[i].verdict = isModified
			if !decided[i] && layerdir.IsDir(&st) && s.sameDir(e.Name, &st) {
				found[i].verdict = isSame
			}
		}
	}
	return nil
}

// sameDir reports whether the upper's directory name looks like the lower's, as it does
// when it was only copied up on the way to something else.
func (s *overlayScan) sameDir(name string, low *unix.Stat_t) bool {
	var up unix.Stat_t
	if layerdir.StatAt(s.Dir.FD, name, &up) != nil || !layerdir.IsDir(&up) {
		return false
	}
	return sameDir(&up, low)
}

func sameDir(up, low *unix.Stat_t) bool {
	return up.Size == low.Size && up.Mode == low.Mode && sameTime(up.Mtim, low.Mtim)
}

// sameTime compares modification times as far as they can be known: many tars carry whole
// seconds only, so that a time without a fraction equals any time within its second.
func sameTime(a, b unix.Timespec) bool {
	return a.Sec == b.Sec && (a.Nsec == b.Nsec || a.Nsec == 0 || b.Nsec == 0)
}
