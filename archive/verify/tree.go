package verify

import (
	"archive/tar"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/crc64"
	"github.com/shalestore/shale/internal/eintr"
	"github.com/shalestore/shale/internal/layerdir"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// compare holds the layer's own directories against the expectation.
func (v *verifier) compare(ctx context.Context) error {
	ids, err := v.opts.IDMap, v.opts.IDMap.Validate()
	if err != nil {
		return err
	}
	initial, err := idtools.EveryIDMapped()
	userns := err == nil && !initial
	c := treeCheck{verifier: v, ids: ids, xattrs: xattr.NewReader(), strangers: v.opts.Partial || v.expect.unclear ||
		len(v.opts.Own) > 1}
	c.opaqueAttr = layerdir.OverlayNamesOf(v.opts.Whiteouts == archive.OverlayUser).Opaque
	// The kernel shows trusted attributes to the host's root alone, and an ordinary
	// user's store has none.
	c.opaqueShown = v.opts.Whiteouts == archive.OverlayUser || !userns && !v.opts.NoDevices
	if userns || v.opts.Whiteouts == archive.OverlayUser {
		v.opts.NoDevices = true
	}
	for n, dir := range v.opts.Own {
		c.top = n == 0
		if err := c.tree(ctx, dir); err != nil {
			return err
		}
	}
	if c.lowers, err = layerdir.OpenLowers(v.opts.Content[min(1, len(v.opts.Content)):]); err != nil {
		return err
	}
	defer c.lowers.Close()
	return c.missing("", v.expect.root, v.expect.root.opaque)
}

// treeCheck is the comparison of one tree.
type treeCheck struct {
	*verifier
	ids         idtools.Mapping
	xattrs      *xattr.Reader
	top         bool // the newest of the own directories
	strangers   bool // files that no member describes are none of our business
	opaqueAttr  string
	opaqueShown bool
	lowers      *layerdir.Lowers
	buf         []byte
}

func (c *treeCheck) tree(ctx context.Context, dir string) error {
	root, err := layerdir.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Release()
	w, err := layerdir.NewWalk(root)
	if err != nil {
		return fmt.Errorf("read directory %s: %w", dir, err)
	}
	defer w.Close()
	at := []*expected{c.expect.root} // the expected directories from the root to the current entry's
	for w.Next(ctx) {
		if err := w.Stat(); err != nil {
			if layerdir.Absent(err) {
				continue
			}
			return err
		}
		at = at[:w.Depth()+1]
		n, err := c.entry(w, at[w.Depth()])
		if err != nil {
			return err
		}
		if n != nil && n.isDir() && layerdir.IsDir(&w.St) {
			at = append(at, n)
			w.Descend()
		}
	}
	return w.Err
}

// entry compares the walk's current entry with what dir is expected to have of that name,
// which it returns.
func (c *treeCheck) entry(w *layerdir.Walk, dir *expected) (*expected, error) {
	path := "/" + w.Path
	if name, ok := strings.CutPrefix(w.Name, archive.WhiteoutPrefix); ok { // the form for mount programs
		if w.Name == archive.WhiteoutOpaque && dir.opaque {
			return nil, nil
		}
		if n := dir.children[name]; n != nil && n.kind == kindWhiteout {
			n.seen = true
			return nil, nil
		}
	}
	// Mount programs keep a whiteout as a file beside what it is about, so it tells
	// nothing of the name it bears.
	literal := c.opts.Whiteouts == archive.LiteralWhiteouts
	n := dir.children[w.Name]
	if n != nil && n.kind == kindWhiteout && literal && !layerdir.IsWhiteout(&w.St) {
		return nil, nil
	}
	if n == nil {
		if dir == c.expect.root && dir.opaque && layerdir.IsWhiteout(&w.St) {
			return nil, nil // where a tar hides all that is beneath it, a layer has a whiteout for each name
		}
		if !c.strangers && !(literal && strings.HasPrefix(w.Name, archive.WhiteoutPrefix)) {
			c.damage(Damage{Path: path, What: "+"})
		}
		return nil, nil
	}
	if n.seen && !c.top {
		return n, nil // a newer directory has it
	}
	n.seen = true
	return n, c.node(path, n.file(), xattr.At(w.Dir.FD, w.Name), &w.St, w.Dir.FD, w.Name)
}

// node compares one file. at and name tell where it is; name is "" for the open root.
func (c *treeCheck) node(path string, n *expected, file xattr.File, st *unix.Stat_t, at int, name string) error {
	stat := *st
	overridden, err := c.override(n, file, &stat)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var differs []string
	differ := func(format string, args ...any) { differs = append(differs, fmt.Sprintf(format, args...)) }
	if kind := kindOf(&stat); kind != n.kind && (n.kind != kindImplied || kind != tar.TypeDir) {
		if !c.opts.ForceMask || overridden {
			differ("type:%s→%s", kindName(n.kind), kindName(kind))
			c.damage(Damage{Path: path, What: strings.Join(differs, ",")})
		}
		return nil
	}
	if err := c.contentOf(n, &stat, at, name, differ); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(n.as) > 0 {
		c.attributes(n, &stat, overridden, differ)
		if err := c.extended(n, file, differ); err != nil && !layerdir.Absent(err) {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if n.opaque && c.top && c.opaqueShown {
		if value, _, err := c.xattrs.Get(file, c.opaqueAttr); err == nil && string(value) != "y" &&
			!c.literalOpaque(at, name) {
			differ("opaque:y→%s", value)
		}
	}
	if len(n.as) > 1 && c.opts.Whiteouts != archive.RemoveWhiteouts && len(c.opts.Own) == 1 {
		if n.inode != 0 && n.inode != st.Ino {
			differ("no hard link any more")
		}
		n.inode = st.Ino
	}
	if len(differs) > 0 {
		c.damage(Damage{Path: path, What: strings.Join(differs, ",")})
	}
	return nil
}

// literalOpaque looks for the form that mount programs have for opaque directories.
func (c *treeCheck) literalOpaque(at int, name string) bool {
	var st unix.Stat_t
	if name != "" {
		name += "/"
	}
	return layerdir.StatAt(at, name+archive.WhiteoutOpaque, &st) == nil
}

// override puts into st what a store with a force mask says the file really is.
func (c *treeCheck) override(n *expected, file xattr.File, st *unix.Stat_t) (bool, error) {
	for _, as := range n.as {
		if slices.ContainsFunc(as.xattrs, func(x tarstream.Xattr) bool { return x.Name == archive.OverrideStatXattr }) {
			return false, nil // the tar's own
		}
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return false, nil
	}
	value, ok, err := c.xattrs.Get(file, archive.OverrideStatXattr)
	if !ok || err != nil {
		return false, layerdir.IgnoreAbsent(err)
	}
	if err := archive.ApplyOverride(st, string(value)); err != nil {
		return false, nil // nonsense leaves the file as it is, which then differs
	}
	return true, nil
}

// contentOf compares sizes, targets and device numbers, and the content of files that
// hasn't been compared yet.
func (c *treeCheck) contentOf(n *expected, st *unix.Stat_t, at int, name string, differ func(string, ...any)) error {
	switch n.kind {
	case tar.TypeReg:
		if st.Size != n.size {
			differ("size:%d→%d", n.size, st.Size)
		} else if !n.checked && n.size > 0 {
			sum, err := c.checksum(at, name, st)
			if err != nil {
				return layerdir.IgnoreAbsent(err)
			}
			if sum != n.crc {
				differ("content")
			}
			n.checked = true
		}
	case tar.TypeSymlink:
		if target, err := layerdir.ReadlinkAt(at, name); err != nil {
			return layerdir.IgnoreAbsent(err)
		} else if target != n.link {
			differ("target:%q→%q", n.link, target)
		}
	case tar.TypeChar, tar.TypeBlock:
		if dev := unix.Mkdev(uint32(n.major), uint32(n.minor)); dev != st.Rdev {
			differ("device:%d:%d→%d:%d", n.major, n.minor, unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
	}
	return nil
}

func (c *treeCheck) checksum(at int, name string, st *unix.Stat_t) (uint64, error) {
	fd, err := layerdir.OpenFileAt(at, name, st)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if c.buf == nil {
		c.buf = make([]byte, 256<<10)
	}
	for sum := uint64(0); ; {
		n, err := eintr.ReadFull(fd, c.buf)
		if n == 0 || err != nil {
			return sum, err
		}
		sum = crc64.Update(sum, c.buf[:n])
	}
}

// missing lists what was expected and not found. alone tells that nothing lower shows in
// dir, so that no whiteout is called for.
func (c *treeCheck) missing(path string, dir *expected, alone bool) error {
	for _, name := range slices.Sorted(maps.Keys(dir.children)) {
		n, seen := dir.children[name].file(), dir.children[name].seen
		at := path + "/" + name
		if seen {
			if n.isDir() {
				if err := c.missing(at, n, alone || n.opaque); err != nil {
					return err
				}
			}
			continue
		}
		device := n.kind == tar.TypeChar || n.kind == tar.TypeBlock
		switch {
		case device && c.opts.NoDevices, n.kind == kindImplied && len(n.children) == 0:
			continue
		case n.kind == kindWhiteout:
			if shows, err := c.lowers.Shows(strings.TrimPrefix(path, "/"), name, c.opaqueAttr); err != nil {
				return err
			} else if !shows || alone {
				continue
			}
		case n.kind == tar.TypeReg && n.checked && n.size > 0 && c.noted(at):
			// Its content was missed while the tar was put together, or found in a layer
			// beneath, which mounts show as well.
			continue
		}
		c.damage(Damage{Path: at, What: "-"})
	}
	return nil
}

func (c *treeCheck) noted(path string) bool {
	return slices.ContainsFunc(c.result.Damages, func(d Damage) bool { return d.Path == path })
}

func kindOf(st *unix.Stat_t) byte {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return tar.TypeReg
	case unix.S_IFDIR:
		return tar.TypeDir
	case unix.S_IFLNK:
		return tar.TypeSymlink
	case unix.S_IFIFO:
		return tar.TypeFifo
	case unix.S_IFBLK:
		return tar.TypeBlock
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			return kindWhiteout
		}
		return tar.TypeChar
	}
	return 0
}

func kindName(kind byte) string {
	switch kind {
	case tar.TypeReg:
		return "file"
	case tar.TypeDir, kindImplied:
		return "directory"
	case tar.TypeSymlink:
		return "symlink"
	case tar.TypeFifo:
		return "FIFO"
	case tar.TypeBlock, tar.TypeChar:
		return "device"
	case kindWhiteout:
		return "whiteout"
	}
	return "other"
}
