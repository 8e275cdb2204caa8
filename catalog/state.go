package catalog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/lockfile"
	"golang.org/x/sys/unix"
)

// state is what the files of a catalog hold. Views share it, and change nothing but its
// indexes; an Update changes it in place, and drops it if the change does not reach the
// disk.
type state struct {
	token lockfile.Token
	files []fileState
	inUse sync.RWMutex

	ids map[string]*element

	nameOnce  sync.Once
	names     map[string]*element // who has the name: of several in the files, the last
	robbed    []*element          // records that have lost a name to a later one
	nameFault *element
	nameErr   error
}

type fileState struct {
	elements []*element // without those that an earlier element with the same ID hides
	hidden   []string   // the IDs of those that are hidden; they go with the next save
	stamp    stamp
}

// stamp tells one content of a file from the next without reading it.
type stamp struct {
	exists   bool
	dev, ino uint64
	size     int64
	mtime    unix.Timespec
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{exists: true, dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim}
}

func stampAt(path string) (stamp, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if errors.Is(err, unix.ENOENT) {
		return stamp{}, nil
	}
	if err != nil {
		return stamp{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return stampOf(&st), nil
}

// unchanged reports whether the files are still those that were read.
func (st *state) unchanged(files []File) bool {
	for i, f := range files {
		s, err := stampAt(f.Path)
		if err != nil || s != st.files[i].stamp {
			return false
		}
	}
	return true
}

func load(files []File) (*state, error) {
	st := &state{files: make([]fileState, len(files))}
	scanned := make([][]element, len(files))
	n := 0
	for i, f := range files {
		data, stamp, err := readFile(f.Path)
		if err != nil {
			return nil, err
		}
		elements, fault := scan(data)
		if fault != nil {
			return nil, damaged(f.Path, data, fault)
		}
		st.files[i].stamp = stamp
		scanned[i] = elements
		n += len(elements)
	}
	st.ids = make(map[string]*element, n)
	for i := range scanned {
		st.files[i].take(scanned[i], st.ids)
	}
	return st, nil
}

// take keeps the first of several elements with one ID. No program writes such files;
// they come from copies put back by hand, and all that matters is that everyone sees the
// same record.
func (f *fileState) take(elements []element, ids map[string]*element) {
	f.elements = make([]*element, 0, len(elements))
	for k := range elements {
		e := &elements[k]
		if ids[e.id] != nil {
			f.hidden = append(f.hidden, e.id)
			continue
		}
		ids[e.id] = e
		f.elements = append(f.elements, e)
	}
}

// readFile reads a file of records; a missing one has none.
func readFile(path string) ([]byte, stamp, error) {
	// O_NONBLOCK: a FIFO in this place must not make us wait.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, stamp{}, nil
	}
	if err != nil {
		return nil, stamp{}, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, stamp{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, stamp{}, errdefs.CorruptFile{Path: path, At: "its type: it is not a regular file"}
	}
	if st.Size > maxFileSize {
		return nil, stamp{}, errdefs.CorruptFile{Path: path, At: fmt.Sprintf(
			"byte %d: a file of records has at most %d bytes", maxFileSize, maxFileSize)}
	}
	data := make([]byte, st.Size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, stamp{}, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return data, stampOf(&st), nil
}

// fileOf returns the index of the file an element is in.
func (st *state) fileOf(e *element) int {
	for i := range st.files {
		if slices.Contains(st.files[i].elements, e) {
			return i
		}
	}
	return -1
}
