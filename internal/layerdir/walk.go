package layerdir

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/dirent"
	"golang.org/x/sys/unix"
)

// PathMax bounds the names that a walk forms. Go's tar readers take no longer one, as a
// PAX header ends at 1 MiB.
const PathMax = 1<<20 - 4096

// Walk goes through a tree, each directory before its content, names in byte order: the
// order of fs.WalkDir, which is that of containers/storage's layer tars. It is an
// iterator:
//
//	for w.Next(ctx) {
//		... w.Dir, w.Name, w.Path ...
//		if it is a directory { w.Descend() }
//	}
//	... w.Err ...
type Walk struct {
	stack  *Stack
	frames []walkFrame
	prefix []byte // path of the current directory with a final slash; empty at the root

	Dir   *Dir   // where the current entry lies
	Name  string // its name there
	Path  string // its path below the root, without a leading slash; of a Nameless walk only its name
	Type  uint8  // unix.DT_*, never DT_UNKNOWN
	St    unix.Stat_t
	hasSt bool // whether St is filled
	Err   error
	into  bool

	// Nameless, set before the first Next, is for who asks for no paths. These cost time,
	// and trees in which they grow beyond PathMax can't be walked otherwise.
	Nameless bool
}

type walkFrame struct {
	list []dirent.Entry
	next int
	base int // length of the prefix above this directory
}

func NewWalk(root *Dir) (*Walk, error) {
	stack, err := NewStack(root)
	if err != nil {
		return nil, err
	}
	list, err := dirent.List(root.FD)
	if err != nil {
		stack.Close()
		return nil, err
	}
	return &Walk{stack: stack, frames: []walkFrame{{list: list}}}, nil
}

// Beneath makes the paths of a walk that has not begun be those of what lies in the
// directory path.
func (w *Walk) Beneath(path string) {
	w.prefix = append(append(w.prefix, path...), '/')
}

func (w *Walk) Close() { w.stack.Close() }

// Depth is how many directories lie between the root and the current entry: 0 for an
// entry of the root.
func (w *Walk) Depth() int { return len(w.frames) - 1 }

// Device is the device number of the current entry's directory.
func (w *Walk) Device() uint64 { return w.stack.Device() }

// Descend makes the next entry the first one inside the current one, which must be a
// directory.
func (w *Walk) Descend() { w.into = true }

// Siblings are all the entries of the current entry's directory.
func (w *Walk) Siblings() []dirent.Entry { return w.frames[len(w.frames)-1].list }

// At is the current entry's place among its siblings.
func (w *Walk) At() int { return w.frames[len(w.frames)-1].next - 1 }

// Parent is the path of the current entry's directory with a final slash; "" for the
// root.
func (w *Walk) Parent() string { return string(w.prefix) }

// Next moves to the next entry. It returns false at the end and when something failed,
// which w.Err then tells. Entries that vanish before they are looked at are passed over,
// as in a live container they may.
func (w *Walk) Next(ctx context.Context) bool {
	if w.Err = ctx.Err(); w.Err != nil {
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
			if err := w.stack.Pop(); err != nil {
				w.Err = fmt.Errorf("/%s: %w", w.prefix, err)
				return false
			}
			continue
		}
		e := f.list[f.next]
		f.next++
		w.Dir, w.Name, w.Type, w.hasSt = w.stack.Top(), e.Name, e.Type, false
		if w.Path = e.Name; !w.Nameless {
			if len(w.prefix)+len(e.Name) > PathMax {
				w.Err = fmt.Errorf("directory /%.80s...: %w: path of more than %d bytes", w.prefix, errdefs.ErrInvalid,
					PathMax)
				return false
			}
			w.Path = string(append(w.prefix, e.Name...))
		}
		if w.Type == unix.DT_UNKNOWN {
			if err := w.Stat(); Absent(err) {
				continue
			} else if err != nil {
				w.Err = err
				return false
			}
			w.Type = uint8(w.St.Mode >> 12 & 15) // DT_* are the S_IFMT bits, getdents(2)
		}
		return true
	}
}

// Stat fills w.St for the current entry.
func (w *Walk) Stat() error {
	if w.hasSt {
		return nil
	}
	err := StatAt(w.Dir.FD, w.Name, &w.St)
	if err != nil {
		if Absent(err) {
			return err
		}
		return fmt.Errorf("/%s: %w", w.Path, err)
	}
	w.hasSt = true
	return nil
}

func (w *Walk) enter() bool {
	err := w.stack.Push(w.Name)
	if Absent(err) { // gone, or no directory any more
		return true
	}
	var list []dirent.Entry
	if err == nil {
		list, err = dirent.List(w.stack.Top().FD)
	}
	if err != nil {
		w.Err = fmt.Errorf("read directory /%s: %w", w.Path, err)
		return false
	}
	w.frames = append(w.frames, walkFrame{list: list, base: len(w.prefix)})
	if !w.Nameless {
		w.prefix = append(append(w.prefix, w.Name...), '/')
	}
	return true
}
