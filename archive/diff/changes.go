package diff

import (
	"fmt"

	"github.com/shalestore/shale/errdefs"
)

// changesMax bounds the paths of one change list, in bytes. Millions of files fit in. A
// tree that was made to be deep, in which each path is a megabyte long, does not, and
// must not take the memory of its host.
const changesMax = 512 << 20

// changeList is a list in the making.
type changeList struct {
	list  []Change
	bytes int
}

func (l *changeList) add(path string, kind ChangeKind) error {
	if l.bytes += len(path); l.bytes > changesMax {
		return fmt.Errorf("%w: the paths of the changes take more than %d bytes", errdefs.ErrInvalid, changesMax)
	}
	l.list = append(l.list, Change{Path: path, Kind: kind})
	return nil
}

// cut takes back the last entry.
func (l *changeList) cut() {
	last := len(l.list) - 1
	l.bytes -= len(l.list[last].Path)
	l.list = l.list[:last]
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
