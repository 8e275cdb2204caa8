package diff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/internal/readahead"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/layerdir"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// Options says how a layer becomes a tar. The zero value takes owners as they stand
// on disk.
type Options struct {
	// IDMap is the mapping of the layer on disk: owners go back to what the container
	// sees. An owner outside of it is an error.
	IDMap idtools.Mapping
	// OldIDMap is the mapping of the tree that a layer is compared with; used by
	// TreeChanges and WriteTree only.
	OldIDMap idtools.Mapping
	// OverrideStat takes owner, mode and type of a file from its attribute
	// user.containers.override_stat, and leaves that out of the tar. It is for stores
	// with a force mask, whose own extraction wrote the attribute. Elsewhere whoever may
	// set a user attribute would choose the owner and the setuid bit of a file in the
	// next image, so it stays an attribute like others.
	OverrideStat bool
	// LeaveOut is told of each file whose name begins like a whiteout's, which stays out
	// of the tar with what is beneath it: whoever reads the tar would remove another file
	// in its place. With nil such a file is errdefs.ErrInvalid.
	LeaveOut func(path string)
	// Literal packs such a file like any other, for a reader with
	// archive.LiteralWhiteouts.
	Literal bool
	// Progress is called now and then with the bytes written so far; nil for none. It
	// must return quickly.
	Progress func(written int64)
}

// endOfArchive is the two zero blocks that end a tar (pax(1), ustar interchange format).
var endOfArchive [1024]byte

// WriteOverlay writes the uncompressed layer tar of an overlay upper directory to w:
// what the directory holds, with whiteouts (character devices 0:0) as .wh. files and
// opaque directories followed by .wh..wh..opq if one of the lowers had the directory.
// Lowers are the parents' content directories, nearest first. The same tree gives the
// same bytes, and those that containers/storage gives.
//
// Entries come in the order of a walk, names in byte order, each directory before its
// content; sockets are left out.
//
// It returns errdefs.ErrUnsupported, before the first byte, when the upper holds
// redirects or metacopies: WriteMerged is then the way. Files that vanish while the
// walk comes by are left out; a file that changes its size while it is read is an error,
// as the bytes written so far then are no tar. Errors name the path within the layer.
func WriteOverlay(ctx context.Context, w io.Writer, upper string, lowers []string, userXattr bool,
	opts Options) error {
	up, err := layerdir.OpenRoot(upper)
	if err != nil {
		return err
	}
	defer up.Release()
	low, err := layerdir.OpenLowers(lowers)
	if err != nil {
		return err
	}
	defer low.Close()
	names := layerdir.OverlayNamesOf(userXattr)
	p := &packing{opts: opts, overlay: &names, lowers: low, whiteouts: map[fileID]bool{}}
	if len(lowers) > 0 {
		if err := p.readMarks(ctx, up); err != nil {
			return err
		}
	}
	return p.write(ctx, w, p.walkTree(up))
}

// WriteTree writes the uncompressed layer tar that makes newDir out of oldDir to w,
// from a comparison of the two trees (TreeChanges). With oldDir "" it holds all of
// newDir, in the order of a walk; else the changed entries in the byte order of their
// paths, as containers/storage has them. Whiteouts carry no time (1970), where
// containers/storage writes the time of day: the same trees give the same bytes here.
// Errors are those of WriteOverlay, except that nothing is unsupported.
func WriteTree(ctx context.Context, w io.Writer, newDir, oldDir string, opts Options) error {
	p := &packing{opts: opts}
	root, err := layerdir.OpenRoot(newDir)
	if err != nil {
		return err
	}
	defer root.Release()
	if oldDir == "" {
		return p.write(ctx, w, p.walkTree(root))
	}
	changes, err := TreeChanges(ctx, newDir, oldDir, opts)
	if err != nil {
		return err
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return p.write(ctx, w, p.pickChanges(root, changes))
}

// producer emits the entries of a tar in order, each with about how many bytes it gives.
type producer func(ctx context.Context, emit func(e entry, cost int64) error) error

// packing is one tar in the making.
type packing struct {
	opts    Options
	overlay *layerdir.OverlayNames // nil for a plain tree, where character devices 0:0 are just that
	lowers  *layerdir.Lowers       // what opaque directories hide; nil where there are none
	links   map[fileID]string
	// whiteouts are those in the form of an attribute.
	whiteouts map[fileID]bool
	lastDir   *layerdir.Dir // only compared
}

// dirCost is what a directory counts for in a batch beside its entries: it bounds the
// directories that are open for entries under way.
const dirCost = readahead.BatchCost / 16

// fileID tells files apart that have several names.
type fileID struct{ dev, ino uint64 }

// entry is a member of the tar to be.
type entry struct {
	dir    *layerdir.Dir // where the file lies; nil when only a header is wanted
	name   string        // its name there
	path   string        // its path in the layer, without a leading slash
	st     unix.Stat_t
	as     entryForm
	link   string // for hardLink: the name of the entry that it links to
	opaque bool
	// whiteout says that the file is overlay's mark of an absent one.
	whiteout bool
}

type entryForm uint8

const (
	asFile   entryForm = iota // with everything that it has on disk
	hardLink                  // another name of an entry that came before
	deletion                  // a whiteout, of which nothing is on disk
	trailer                   // the end of the archive
)

func (p *packing) write(ctx context.Context, w io.Writer, produce producer) error {
	p.links = map[fileID]string{}
	r := readahead.Stream[entry]{
		Produce: func(ctx context.Context, emit func(entry, int64) error) error {
			if err := produce(ctx, emit); err != nil {
				return err
			}
			return emit(entry{as: trailer}, int64(len(endOfArchive)))
		},
		Worker:   func() readahead.Filler[entry] { return newPacker(p) },
		Progress: p.opts.Progress,
	}
	return r.Run(ctx, w)
}

// emitFile sends one existing file on its way. Sockets have no meaning without the
// process that bound them, and don't go. An opaque directory hides what the lowers have
// under its name, if they do.
func (p *packing) emitFile(dir *layerdir.Dir, name, path string, st *unix.Stat_t, opaque bool,
	emit func(entry, int64) error) error {
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFSOCK {
		return nil
	}
	whiteout := p.overlay != nil && (layerdir.IsWhiteout(st) || p.whiteouts[fileID{st.Dev, st.Ino}])
	e := entry{dir: dir.Retain(), name: name, path: path, st: *st, opaque: opaque, whiteout: whiteout}
	if st.Nlink > 1 && !layerdir.IsDir(st) {
		id := fileID{st.Dev, st.Ino}
		if first, ok := p.links[id]; ok {
			e.as, e.link = hardLink, first
		} else {
			p.links[id] = e.tarName()
		}
	}
	cost := int64(1024 + len(path) + len(e.link))
	if kind == unix.S_IFREG && e.as == asFile {
		cost += st.Size
	}
	if dir != p.lastDir {
		cost += dirCost
		p.lastDir = dir
	}
	return emit(e, cost)
}

// carries reports whether a tar can have a file of this name.
func (p *packing) carries(name, path string) (bool, error) {
	if p.opts.Literal || !strings.HasPrefix(name, archive.WhiteoutPrefix) {
		return true, nil
	}
	if p.opts.LeaveOut == nil {
		return false, fmt.Errorf("/%s: %w: the tar of a layer can't hold this name, which would be read as a whiteout",
			path, errdefs.ErrInvalid)
	}
	p.opts.LeaveOut("/" + path)
	return false, nil
}

// carriesPath is carries for a file whose directories haven't been looked at.
func (p *packing) carriesPath(path string) (bool, error) {
	for name := range strings.SplitSeq(path, "/") {
		if ok, err := p.carries(name, path); !ok {
			return false, err
		}
	}
	return true, nil
}

// tarName is how the entry is called in the tar.
func (e *entry) tarName() string {
	switch {
	case layerdir.IsDir(&e.st):
		return e.path + "/"
	case e.whiteout:
		return whiteoutName(e.path)
	}
	return e.path
}

// walkTree emits everything below root.
func (p *packing) walkTree(root *layerdir.Dir) producer {
	return func(ctx context.Context, emit func(entry, int64) error) error {
		w, err := layerdir.NewWalk(root)
		if err != nil {
			return err
		}
		defer w.Close()
		for w.Next(ctx) {
			if err := w.Stat(); layerdir.Absent(err) {
				continue
			} else if err != nil {
				return err
			}
			if ok, err := p.carries(w.Name, w.Path); err != nil {
				return err
			} else if !ok {
				continue
			}
			if err := p.emitFile(w.Dir, w.Name, w.Path, &w.St, false, emit); err != nil {
				return err
			}
			if layerdir.IsDir(&w.St) {
				w.Descend()
			}
		}
		return w.Err
	}
}

// pickChanges emits the files of a change list that is sorted by path.
func (p *packing) pickChanges(root *layerdir.Dir, changes []Change) producer {
	return func(ctx context.Context, emit func(entry, int64) error) error {
		dirs := parentDirs{root: root}
		defer dirs.close()
		for _, c := range changes {
			if err := ctx.Err(); err != nil {
				return err
			}
			name := strings.TrimPrefix(c.Path, "/")
			if c.Kind == Deleted {
				if err := emitDeletion(name, emit); err != nil {
					return err
				}
				continue
			}
			if err := p.pick(&dirs, name, emit); err != nil {
				return err
			}
		}
		return nil
	}
}

func (p *packing) pick(dirs *parentDirs, name string, emit func(entry, int64) error) error {
	parent, base := path.Split(name)
	dir, err := dirs.open(parent)
	var st unix.Stat_t
	if err == nil {
		err = layerdir.StatAt(dir.FD, base, &st)
	}
	if layerdir.Absent(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	if ok, err := p.carriesPath(name); !ok {
		return err
	}
	return p.emitFile(dir, base, name, &st, false, emit)
}

// emitDeletion sends a whiteout, of which nothing is on disk, on its way.
func emitDeletion(name string, emit func(entry, int64) error) error {
	e := entry{path: whiteoutName(name), as: deletion}
	return emit(e, int64(1024+len(e.path)))
}

func whiteoutName(name string) string {
	dir, base := path.Split(name)
	return dir + archive.WhiteoutPrefix + base
}

// parentDirs opens the directories of a sorted list of paths, of which many in a row lie
// in the same few.
type parentDirs struct {
	root *layerdir.Dir
	last [16]struct {
		path string
		dir  *layerdir.Dir
	}
	turn int
}

// open returns the directory path ("" or with a final slash); it stays valid until some
// other calls later.
func (d *parentDirs) open(path string) (*layerdir.Dir, error) {
	if path == "" {
		return d.root, nil
	}
	for i := range d.last {
		if d.last[i].dir != nil && d.last[i].path == path {
			return d.last[i].dir, nil
		}
	}
	fd, err := openat.Beneath(d.root.FD, strings.TrimSuffix(path, "/"), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	slot := &d.last[d.turn]
	d.turn = (d.turn + 1) % len(d.last)
	if slot.dir != nil {
		slot.dir.Release()
	}
	slot.path, slot.dir = path, layerdir.NewDir(fd)
	return slot.dir, nil
}

func (d *parentDirs) close() {
	for _, l := range d.last {
		if l.dir != nil {
			l.dir.Release()
		}
	}
}

// readMarks looks for overlay's attributes in an upper directory before anything is
// written: redirects and metacopies are errdefs.ErrUnsupported.
func (p *packing) readMarks(ctx context.Context, up *layerdir.Dir) error {
	w, err := layerdir.NewWalk(up)
	if err != nil {
		return err
	}
	defer w.Close()
	buf := xattr.NewReader()
	for w.Next(ctx) {
		if w.Type != unix.DT_DIR && w.Type != unix.DT_REG {
			continue
		}
		marks, err := p.overlay.Marks(buf, xattr.At(w.Dir.FD, w.Name))
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return fmt.Errorf("/%s: %w", w.Path, err)
		}
		if marks.Whiteout && w.Type == unix.DT_REG && w.Stat() == nil && w.St.Size == 0 {
			p.whiteouts[fileID{w.St.Dev, w.St.Ino}] = true
		}
		if w.Type == unix.DT_DIR {
			w.Descend()
		}
	}
	return w.Err
}
