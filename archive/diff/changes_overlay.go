package diff

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/archive/internal/layerdir"
	"github.com/shalestore/shale/internal/dirent"
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
	s.below, s.alone = []layerStates{make(layerStates, len(low.FDs))}, []bool{false}
	for w.Next(ctx) {
		if err := s.visit(); err != nil {
			return nil, fmt.Errorf("/%.4000s: %w", w.Path, err)
		}
	}
	return s.changes.list, w.Err
}

// overlayScan compares an upper with its lowers. What is known about the lowers' form of
// a directory is kept for the directories on the way down only, a byte for each lower: no
// lower directory stays open, so that 500 lowers and any depth cost no descriptors.
type overlayScan struct {
	*layerdir.Walk
	lowers *layerdir.Lowers
	names  layerdir.OverlayNames
	xattrs *xattr.Reader

	changes changeList
	listed  []bool        // for each directory on the way down: whether it is in the list
	below   []layerStates // for each directory on the way down: what the lowers have there
	alone   []bool        // for each directory on the way down: whether it hides the lowers' form of it
	known   []siblings    // for each directory on the way down: what the lowers have of its names
}

// layerStates says for each lower what it has in place of a directory of the upper.
type layerStates []layerState

type layerState uint8

const (
	there    layerState = iota // a directory, or a link that may lead to one
	missing                    // nothing, or a file
	whiteout                   // a whiteout: deeper lowers don't count
)

// siblings are the verdicts on the names of one directory.
type siblings struct {
	kinds []verdict
	// states of the directories among them, by their place; nil for files.
	states []layerStates
}

type verdict uint8

const (
	isNew verdict = iota
	isModified
	isSame // a directory that is only there for what it holds
)

func (s *overlayScan) visit() (err error) {
	depth := s.Depth()
	s.below, s.alone = s.below[:depth+1], s.alone[:depth+1]
	s.listed = s.listed[:depth]
	s.known = s.known[:min(len(s.known), depth+1)]
	if len(s.known) == depth { // the first name of a directory: look all of them up together
		here, err := s.lookUp()
		if err != nil {
			return err
		}
		s.known = append(s.known, here)
	}
	here, at := s.known[depth], s.At()
	kind := Added
	deleted, opaque := false, false
	switch s.Type {
	case unix.DT_CHR:
		if err := s.Stat(); layerdir.Absent(err) {
			return nil
		} else if err != nil {
			return err
		}
		deleted = layerdir.IsWhiteout(&s.St)
	case unix.DT_DIR, unix.DT_REG:
		marks, err := s.marks()
		if err != nil {
			return err
		}
		if s.Type == unix.DT_REG && marks.Whiteout {
			if err := s.Stat(); err == nil && s.St.Size == 0 {
				deleted = true
			}
		}
		opaque = marks.Opaque && s.Type == unix.DT_DIR
	}
	listed := true
	switch {
	case deleted:
		kind = Deleted
	case here.kinds[at] == isModified:
		kind = Modified
	case here.kinds[at] == isSame && opaque:
		kind = Modified
	case here.kinds[at] == isSame:
		listed = false
	}
	if listed {
		if kind != Modified {
			if err := s.listParents(); err != nil {
				return err
			}
		}
		if err := s.changes.add("/"+s.Path, kind); err != nil {
			return err
		}
	}
	if s.Type == unix.DT_DIR {
		s.listed = append(s.listed, listed)
		alone := opaque || s.alone[depth]
		if alone {
			if here.states[at], err = s.hidden(); err != nil {
				return err
			}
		}
		s.below = append(s.below, here.states[at])
		s.alone = append(s.alone, alone)
		s.Descend()
	}
	return nil
}

// listParents lists the directories above the current entry that aren't yet.
func (s *overlayScan) listParents() error {
	for i, done := range s.listed {
		if done {
			continue
		}
		s.listed[i] = true
		if err := s.changes.add("/"+s.Ancestor(i), Modified); err != nil {
			return err
		}
	}
	return nil
}

// hidden lists what the current directory hides of its lowers' form, as Deleted, and
// tells in which lowers that is.
func (s *overlayScan) hidden() (layerStates, error) {
	states := make(layerStates, len(s.lowers.FDs))
	for i := range states {
		states[i] = missing
	}
	merged, err := s.lowers.Merged(s.Path, s.names.Opaque)
	if err != nil {
		return nil, err
	}
	for _, i := range merged {
		states[i] = there
	}
	gone, err := hiddenNames(s.lowers, s.Dir, s.Name, s.Path, s.names.Opaque)
	for _, name := range gone {
		if err := s.listParents(); err != nil {
			return nil, err
		}
		if err := s.changes.add("/"+s.Path+"/"+name, Deleted); err != nil {
			return nil, err
		}
	}
	return states, err
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

// marks reads overlay's attributes of the current entry. Without lowers there is nothing
// that they could point to.
func (s *overlayScan) marks() (layerdir.Marks, error) {
	if len(s.lowers.FDs) == 0 {
		return layerdir.Marks{}, nil
	}
	marks, err := s.names.Marks(s.xattrs, xattr.At(s.Dir.FD, s.Name))
	return marks, layerdir.IgnoreAbsent(err)
}

// lookUp asks the lowers about all names of the current directory, opening it once in
// each lower that has it.
func (s *overlayScan) lookUp() (siblings, error) {
	list := s.Walk.Siblings()
	sib := siblings{kinds: make([]verdict, len(list)), states: make([]layerStates, len(list))}
	decided := make([]bool, len(list))
	for i, e := range list {
		if e.Type == unix.DT_DIR || e.Type == unix.DT_UNKNOWN {
			sib.states[i] = make(layerStates, len(s.lowers.FDs))
		}
	}
	states := s.below[s.Depth()]
	for l := range states {
		dir := -1
		if states[l] == there {
			fd, err := openat.InRoot(s.lowers.FDs[l], s.Parent(), unix.O_PATH|unix.O_DIRECTORY)
			switch {
			case err == nil:
				dir = fd
			case !layerdir.Absent(err):
				return sib, fmt.Errorf("look up /%s in a lower directory: %w", s.Parent(), err)
			}
		}
		if dir >= 0 {
			err := s.lookUpIn(dir, l, list, &sib, decided)
			opaque := 0
			if l+1 < len(states) {
				opaque, _ = xattr.Held(dir).Size(s.names.Opaque)
			}
			unix.Close(dir)
			if err != nil {
				return sib, err
			}
			if opaque == len("y") { // what lies deeper isn't shown
				for i := range list {
					for deeper := l + 1; sib.states[i] != nil && deeper < len(states); deeper++ {
						sib.states[i][deeper] = whiteout
					}
				}
				break
			}
			continue
		}
		for i := range list {
			if states[l] == whiteout {
				decided[i] = true
			}
			if sib.states[i] != nil {
				sib.states[i][l] = max(states[l], missing)
			}
		}
	}
	return sib, nil
}

// lookUpIn asks one lower, whose form of the current directory is open as dir.
func (s *overlayScan) lookUpIn(dir, l int, list []dirent.Entry, sib *siblings, decided []bool) error {
	for i, e := range list {
		if decided[i] && sib.states[i] == nil {
			continue
		}
		var st unix.Stat_t
		if err := layerdir.StatAt(dir, e.Name, &st); layerdir.Absent(err) {
			if sib.states[i] != nil {
				sib.states[i][l] = missing
			}
			continue
		} else if err != nil {
			return fmt.Errorf("look up /%s%s in a lower directory: %w", s.Parent(), e.Name, err)
		}
		if sib.states[i] != nil {
			switch {
			case layerdir.IsWhiteout(&st):
				sib.states[i][l] = whiteout
			case !layerdir.IsDir(&st) && st.Mode&unix.S_IFMT != unix.S_IFLNK:
				sib.states[i][l] = missing
			}
		}
		if decided[i] {
			continue
		}
		decided[i] = true
		if layerdir.IsWhiteout(&st) {
			continue
		}
		sib.kinds[i] = isModified
		if layerdir.IsDir(&st) && sib.states[i] != nil && s.sameDir(e.Name, &st) {
			sib.kinds[i] = isSame
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
