package diff

import (
	"fmt"
	"strings"

	"github.com/shalestore/shale/errdefs"
)

// changesMax bounds the paths of one change list, in bytes. Millions of files fit in. A
// tree that was made to be deep, in which each path is a megabyte long, does not, and
// must not take the memory of its host.
const changesMax = 512 << 20

// changeList is a list in the making. The names of a directory are entered after it and
// before those of the next one.
type changeList struct {
	list  []Change
	bytes int
	above []listedDir // the directories on the way to the last name
	// inside: whatever is listed makes the directories above it Modified, not only what
	// is Added or Deleted.
	inside bool
}

type listedDir struct {
	end    int // of its path, which the names in it begin with
	listed bool
}

// enter lists the name at path unless listed is false, and before it those of the
// directories above that aren't listed yet. dir says that names in it may follow.
func (l *changeList) enter(path string, kind ChangeKind, listed, dir bool) error {
	l.above = l.above[:strings.Count(path, "/")]
	if listed && (kind != Modified || l.inside) {
		for i := range l.above {
			if up := &l.above[i]; !up.listed {
				up.listed = true
				if err := l.add(path[:up.end], Modified); err != nil {
					return err
				}
			}
		}
	}
	if dir {
		l.above = append(l.above, listedDir{len(path), listed})
	}
	if !listed {
		return nil
	}
	return l.add(path, kind)
}

func (l *changeList) add(path string, kind ChangeKind) error {
	if l.bytes += len(path); l.bytes > changesMax {
		return fmt.Errorf("%w: the paths of the changes take more than %d bytes", errdefs.ErrInvalid, changesMax)
	}
	l.list = append(l.list, Change{Path: "/" + path, Kind: kind})
	return nil
}

// ChangeKind is what happened to a path.
type ChangeKind int

// The kinds of change, in the order that containers/storage numbers them.
const (
	Modified ChangeKind = iota
	Added
	Deleted
)

// Change is one line of a change list. Path is absolute within the layer: "/etc/passwd".
type Change struct {
	Path string
	Kind ChangeKind
}
