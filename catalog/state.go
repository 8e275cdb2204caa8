package catalog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/eintr"
	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// state is what the files of a catalog hold. Views share it, and change nothing but its
// indexes; an Update changes it in place, and drops it if the change does not reach the
// disk.
type state struct {
	token      lockfile.Token
	wroteToken bool // by this process
	files      []fileState
	inUse      sync.RWMutex

	ids map[string]*element

	nameOnce sync.Once
	names    map[string]*element // who has the name: of several in the files, the last
	robbed   []*element          // records that have lost a name to a later one
	nameErr  error
}

type fileState struct {
	elements []*element // without those that an earlier element with the same ID hides
	hidden   []string   // the IDs of those that are hidden; they go with the next save
	stamp    stamp
	reserve  int64 // what size of the file has a reserve, as far as is known
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
	err := unix.Lstat(path, &st)
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

// beneathRoot cuts a path of a store in two: its root, which may be reached over links,
// and what is beneath, a file in one of the root's directories, where none may be.
func beneathRoot(path string) (root, rel string) {
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	return filepath.Dir(dir), filepath.Join(filepath.Base(dir), name)
}

// readFile reads a file of records; a missing one has none.
func readFile(path string) ([]byte, stamp, error) {
	root, rel := beneathRoot(path)
	var st unix.Stat_t
	fd, err := openat.File(root, rel, unix.O_RDONLY, &st)
	if errors.Is(err, os.ErrNotExist) {
		return nil, stamp{}, nil
	}
	if err != nil {
		return nil, stamp{}, err
	}
	defer unix.Close(fd)
	if st.Size > maxFileSize {
		return nil, stamp{}, errdefs.CorruptFile{Path: path, At: fmt.Sprintf(
			"byte %d: a file of records has at most %d bytes", maxFileSize, maxFileSize)}
	}
	data := make([]byte, st.Size)
	n, err := eintr.ReadFull(fd, data)
	if err == nil && n < len(data) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
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
