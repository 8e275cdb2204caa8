package verify

import (
	"archive/tar"
	"path"
	"strings"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/internal/tarstream"
)

// expectation is the tree that the members of a layer's tar describe, or those of several
// layers one after another: what Layer finds in a directory if nobody has touched it. It
// follows the rules of apply.Tar. Where a tar means something that only the making of it
// can tell (names that go through symlinks), it expects less rather than something wrong.
type expectation struct {
	root *expected
	// layer counts the tars, from 0. What comes from an earlier one has been copied
	// since.
	layer int
	// carryOut: whiteouts remove what earlier layers hold, as a driver that copies has
	// it; else they are marks of their own.
	carryOut bool
	// unclear: some name led through a symlink, or to something that isn't there. What
	// else is in the directory can't be told then.
	unclear bool
	count   int64 // of nodes
}

// expected is a name that ought to be there, and the file behind it.
type expected struct {
	same  *expected // for another name of a file: the name that has the rest
	kind  byte      // a tar type flag, or one of the two below
	layer int
	// one for each header that describes it: hard links have several, and which of them
	// counts depends on the tool
	as       []attributesOf
	size     int64
	crc      uint64
	checked  bool // the content was compared already, while the tar was put together
	link     string
	major    int64
	minor    int64
	opaque   bool
	timeless bool // its time has changed since, rightly
	children map[string]*expected
	seen     bool
	inode    uint64 // where it was found first
}

// The kinds of node that a tar has no type flag for.
const (
	kindImplied  = 'd' // a directory that names go through and that no member describes
	kindWhiteout = 'w'
)

// attributesOf is what a header says besides the content.
type attributesOf struct {
	uid, gid int64
	mode     uint32
	mtime    tarstream.Timestamp
	xattrs   []tarstream.Xattr
}

func newExpectation(carryOut bool) *expectation {
	return &expectation{root: &expected{kind: kindImplied, children: map[string]*expected{}}, carryOut: carryOut}
}

// add takes the next member in. It returns the regular file that the member's content
// belongs to, or nil.
func (e *expectation) add(h *tarstream.Header) *expected {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	p, err := tarstream.ParseName(h.Name)
	if err != nil {
		e.unclear = true
		return nil
	}
	if p.Base == "" {
		e.root.describe(h, e.layer)
		return nil
	}
	first, _, _ := strings.Cut(path.Join(p.Dir, p.Base), "/")
	if strings.HasPrefix(first, archive.AUFSPrefix) && first != archive.WhiteoutOpaque &&
		first != archive.AUFSLinks {
		return nil
	}
	absent, whiteout := strings.CutPrefix(p.Base, archive.WhiteoutPrefix)
	dir := e.directory(p.Dir, whiteout)
	if dir == nil {
		e.unclear = e.unclear || !whiteout
		return nil
	}
	if whiteout {
		e.whiteout(dir, p.Base, absent)
		return nil
	}
	if h.Typeflag == tar.TypeLink {
		e.hardLink(h, dir, p.Base)
		return nil
	}
	dir.changedBy(e.layer)
	n := dir.children[p.Base]
	if n == nil || !n.isDir() || h.Typeflag != tar.TypeDir {
		n = &expected{}
		e.put(dir, p.Base, n)
	}
	n.describe(h, e.layer)
	if n.kind == tar.TypeReg {
		return n
	}
	return nil
}

func (e *expectation) put(dir *expected, name string, n *expected) {
	if dir.children == nil {
		dir.children = map[string]*expected{}
	}
	if dir.children[name] == nil {
		e.count++
	}
	dir.children[name] = n
}

// directory finds the directory with this path, and makes those that no member has
// described. It returns nil where a name on the way is none, or where it is about a
// whiteout that nothing is beneath.
func (e *expectation) directory(name string, whiteout bool) *expected {
	dir := e.root
	for _, part := range split(name) {
		next := dir.children[part]
		if next == nil && whiteout && e.carryOut {
			return nil
		}
		if next == nil || next.kind == kindWhiteout && next.layer == e.layer && !whiteout {
			dir.changedBy(e.layer)
			next = &expected{kind: kindImplied, layer: e.layer, opaque: next != nil}
			e.put(dir, part, next)
		}
		if !next.isDir() {
			return nil
		}
		dir = next
	}
	return dir
}

func split(name string) []string {
	if name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

// whiteout hides what earlier layers have, and nothing of this one.
func (e *expectation) whiteout(dir *expected, base, absent string) {
	dir.changedBy(e.layer)
	if base == archive.WhiteoutOpaque {
		dir.hideEarlier(e)
		return
	}
	switch n := dir.children[absent]; {
	case n != nil && n.of(e.layer) && n.kind != kindWhiteout:
		n.hideEarlier(e)
	case e.carryOut:
		delete(dir.children, absent)
	default:
		e.put(dir, absent, &expected{kind: kindWhiteout, layer: e.layer})
	}
}

// hideEarlier makes a directory opaque, or removes what earlier layers have put beneath
// it.
func (n *expected) hideEarlier(e *expectation) {
	if n.isDir() && !e.carryOut {
		n.opaque = true
		return
	}
	for name, child := range n.children {
		if child.of(e.layer) {
			child.hideEarlier(e)
		} else {
			delete(n.children, name)
		}
	}
}

// of reports whether the layer has put this, or something beneath it, there.
func (n *expected) of(layer int) bool {
	if n.layer == layer {
		return true
	}
	for _, child := range n.children {
		if child.of(layer) {
			return true
		}
	}
	return false
}

func (e *expectation) hardLink(h *tarstream.Header, dir *expected, base string) {
	p, err := tarstream.ParseName(strings.TrimLeft(h.Link, "/"))
	if err != nil || p.Base == "" {
		e.unclear = true
		return
	}
	from := e.root
	for _, part := range split(p.Dir) {
		if from = from.children[part]; from == nil {
			break
		}
	}
	dir.changedBy(e.layer)
	var target *expected
	if from != nil && from.children[p.Base] != nil {
		target = from.children[p.Base].file()
	}
	if target == nil || target.isDir() || target.kind == kindWhiteout {
		e.unclear = true
		delete(dir.children, base)
		return
	}
	target.as = append(target.as, attributesIn(h))
	e.put(dir, base, &expected{same: target, layer: e.layer})
}

// file is the node that describes the file.
func (n *expected) file() *expected {
	if n.same != nil {
		return n.same
	}
	return n
}

func (n *expected) isDir() bool { return n.kind == tar.TypeDir || n.kind == kindImplied }

// changedBy notes that a layer gives the directory another list of names. apply.Tar sets
// the times of the directories that the same layer describes at its end, those of others
// change.
func (n *expected) changedBy(layer int) {
	if n.layer != layer {
		n.timeless = true
	}
}

// describe makes n what the header says.
func (n *expected) describe(h *tarstream.Header, layer int) {
	n.kind, n.layer, n.timeless = h.Typeflag, layer, false
	switch h.Typeflag {
	case tar.TypeCont, tarstream.TypeGNUSparse:
		n.kind = tar.TypeReg
	case tar.TypeChar:
		if h.DevMajor == 0 && h.DevMinor == 0 {
			n.kind = kindWhiteout
		}
	}
	n.as = []attributesOf{attributesIn(h)}
	n.size, n.link, n.major, n.minor = h.RealSize, h.Link, h.DevMajor, h.DevMinor
}

func attributesIn(h *tarstream.Header) attributesOf {
	return attributesOf{uid: h.Uid, gid: h.Gid, mode: uint32(h.Mode) & 0o7777, mtime: h.Mtime, xattrs: h.Xattrs}
}
