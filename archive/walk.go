package archive

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// pathMax bounds the names that a walk forms. Go's tar readers take no longer one, as a
// PAX header ends at 1 MiB.
const pathMax = 1<<20 - 4096

// walk goes through a tree, each directory before its content, names in byte order: the
// order of fs.WalkDir, which is that of containers/storage's layer tars. It is an
// iterator:
//
//	for w.next(ctx) {
//		... w.dir, w.name, w.path ...
//		if it is a directory { w.descend() }
//	}
//	... w.err ...
type walk struct {
	stack  *dirStack
	frames []walkFrame
	prefix []byte // path of the current directory with a final slash; empty at the root

	dir   *dirRef // where the current entry lies
	name  string  // its name there
	path  string  // its path below the root, without a leading slash
	typ   uint8   // unix.DT_*, never DT_UNKNOWN
	st    unix.Stat_t
	hasSt bool // whether st is filled
	err   error
	into  bool
}

type walkFrame struct {
	list []dirent
	next int
	base int // length of the prefix above this directory
}

func newWalk(root *dirRef) (*walk, error) {
	stack, err := newDirStack(root)
	if err != nil {
		return nil, err
	}
	list, err := listDir(root.fd)
	if err != nil {
		stack.close()
		return nil, err
	}
	return &walk{stack: stack, frames: []walkFrame{{list: list}}}, nil
}

// beneath makes the paths of a walk that has not begun be those of what lies in the
// directory path.
func (w *walk) beneath(path string) {
	w.prefix = append(append(w.prefix, path...), '/')
}

func (w *walk) close() { w.stack.close() }

// depth is how many directories lie between the root and the current entry: 0 for an
// entry of the root.
func (w *walk) depth() int { return len(w.frames) - 1 }

// descend makes the next entry the first one inside the current one, which must be a
// directory.
func (w *walk) descend() { w.into = true }

// siblings are all the entries of the current entry's directory.
func (w *walk) siblings() []dirent { return w.frames[len(w.frames)-1].list }

// at is the current entry's place among its siblings.
func (w *walk) at() int { return w.frames[len(w.frames)-1].next - 1 }

// parent is the path of the current entry's directory with a final slash; "" for the
// root.
func (w *walk) parent() string { return string(w.prefix) }

// next moves to the next entry. It returns false at the end and when something failed,
// which w.err then tells. Entries that vanish before they are looked at are passed over,
// as in a live container they may.
func (w *walk) next(ctx context.Context) bool {
	if w.err = ctx.Err(); w.err != nil {
		return false
	}
	if w.into {
		w.into = false
		if !w.enter() {
			return false
		}
	}
	for {
		f := &w.frames[len(w.frames)-1]
		if f.next == len(f.list) {
			if len(w.frames) == 1 {
				return false
			}
			w.prefix = w.prefix[:f.base]
			w.frames = w.frames[:len(w.frames)-1]
			if err := w.stack.pop(); err != nil {
				w.err = fmt.Errorf("/%s: %w", w.prefix, err)
				return false
			}
			continue
		}
		e := f.list[f.next]
		f.next++
		w.dir, w.name, w.typ, w.hasSt = w.stack.top(), e.name, e.typ, false
		if len(w.prefix)+len(e.name) > pathMax {
			w.err = fmt.Errorf("directory /%.80s...: %w: path of more than %d bytes", w.prefix, errdefs.ErrInvalid,
				pathMax)
			return false
		}
		w.path = string(append(w.prefix, e.name...))
		if w.typ == unix.DT_UNKNOWN {
			if err := w.stat(); absent(err) {
				continue
			} else if err != nil {
				w.err = err
				return false
			}
			w.typ = uint8(w.st.Mode >> 12 & 15) // DT_* are the S_IFMT bits, getdents(2)
		}
		return true
	}
}

// stat fills w.st for the current entry.
func (w *walk) stat() error {
	if w.hasSt {
		return nil
	}
	err := statAt(w.dir.fd, w.name, &w.st)
	if err != nil {
		if absent(err) {
			return err
		}
		return fmt.Errorf("/%s: %w", w.path, err)
	}
	w.hasSt = true
	return nil
}

func (w *walk) enter() bool {
	err := w.stack.push(w.name)
	if absent(err) { // gone, or no directory any more
		return true
	}
	var list []dirent
	if err == nil {
		list, err = listDir(w.stack.top().fd)
	}
	if err != nil {
		w.err = fmt.Errorf("read directory /%s: %w", w.path, err)
		return false
	}
	w.frames = append(w.frames, walkFrame{list: list, base: len(w.prefix)})
	w.prefix = append(append(w.prefix, w.name...), '/')
	return true
}

// ancestor is the path of the directory that lies level directories below the root and
// above the current entry.
func (w *walk) ancestor(level int) string {
	f := w.frames[level+1]
	end := f.base
	for end < len(w.prefix) && w.prefix[end] != '/' {
		end++
	}
	return string(w.prefix[:end])
}
