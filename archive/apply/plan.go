package apply

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/internal/layerdir"
	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// The planner goes through the members in their order and decides what becomes of each.
// It alone makes directories, links and special files, and it alone removes; it hands
// regular files to the writers, who work on several at once and finish them in any order.
//
// The result is nevertheless the one that the members' order asks for, whatever the
// archive contains, for these reasons:
//
//   - A writer is bound to a directory's descriptor and to a name in it that is free. It
//     never looks up a path, so that nothing which later members do to paths changes
//     where it writes.
//   - No two tasks in flight have the same directory and name. The planner notes each
//     name it gives away (a.taken). When one comes up again, or the directory held names
//     before the apply, it looks at what is there, waiting for the writers first if that
//     very file is in flight.
//   - Whoever removes a directory waits for all writers first: they may be working below
//     it.
//   - A hard link waits for its target, if that is in flight.
//   - Paths are looked up in a cache. It is forgotten whenever a directory or a symlink
//     is removed; nothing else can change where a path leads that once was found.

// plan makes what h describes, except for the content of a regular file: for that it
// returns the task, not yet given to a writer. A nil task means that content, if there is
// any, is nothing to the layer.
func (a *applier) plan(h *tarstream.Header) (*fileTask, error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		a.note(h)
		return nil, nil
	}
	at, err := a.attributes(h)
	if err != nil {
		return nil, err
	}
	p, err := tarstream.ParseName(h.Name)
	if err != nil {
		return nil, err
	}
	if p.Base == "" {
		a.note(h)
		return nil, a.setRoot(h, &at)
	}
	white, err := a.whiteoutAt(p, h.Typeflag)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(p.Base, archive.WhiteoutPrefix) {
		a.note(h)
	}
	if white.ignored {
		return nil, nil
	}
	a.scratch = a.scratch || white.scratch
	a.tree.reviving = !white.is
	// Overlay's form of a whiteout needs its directory, which a lower may have.
	d, err := a.tree.find(p.Dir, !white.is || a.opaque() != "")
	if err != nil {
		if white.is && (errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENOENT)) {
			return nil, nil // what should be absent can't be there
		}
		return nil, err
	}
	defer d.release()
	if white.is {
		return nil, a.applyWhiteout(d, white, &at)
	}
	return a.create(h, d, p.Base, &at, d.path != p.Dir || white.scratch)
}

// create makes base in d. aliased says that symlinks led to d, or that the name doesn't
// stay.
func (a *applier) create(h *tarstream.Header, d *directory, base string, at *attrs, aliased bool) (*fileTask, error) {
	typeflag := h.Typeflag
	if a.opts.ForceMask != nil {
		switch typeflag {
		case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
			typeflag = tar.TypeReg // its true type is in the override attribute
		}
	}
	if typeflag == tar.TypeLink {
		return nil, a.link(h, d, base, at)
	}
	found, err := a.makeWay(d, base, typeflag == tar.TypeDir)
	if err != nil {
		return nil, err
	}
	switch typeflag {
	case tar.TypeReg, tar.TypeCont, tarstream.TypeGNUSparse:
		t := &fileTask{h: h, dir: d.hold(), name: base, at: *at, aliased: aliased}
		a.result.ContentSize += h.RealSize
		return t, nil
	case tar.TypeDir:
		return nil, a.makeDir(d, base, at, found)
	case tar.TypeSymlink:
		return nil, a.symlink(h, d, base, at)
	case tar.TypeFifo:
		return nil, a.makeNode(d, base, unix.S_IFIFO, 0, at)
	case tar.TypeChar, tar.TypeBlock:
		kind := uint32(unix.S_IFCHR)
		if typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		if uint64(h.DevMajor) > 0xfff || uint64(h.DevMinor) > 0xfffff {
			return nil, fmt.Errorf("%w: device number %d:%d", errdefs.ErrInvalid, h.DevMajor, h.DevMinor)
		}
		err := a.makeNode(d, base, kind, unix.Mkdev(uint32(h.DevMajor), uint32(h.DevMinor)), at)
		if err == unix.EPERM && a.proc.userns {
			// a user namespace can make no devices; images do without, since engines
			// mount their own /dev
			return nil, nil
		}
		return nil, err
	}
	return nil, fmt.Errorf("%w: unhandled tar header type %d (%q)", errdefs.ErrInvalid, h.Typeflag, h.Typeflag)
}

// occupant is what was found at a name.
type occupant int

const (
	nobody        occupant = iota
	sameDirectory          // a directory where a directory is wanted: the two become one
	removedHiding          // what has hidden a lower directory of the name, now gone
	removedOther
)

// makeWay makes sure that nothing is at base in d, and notes that something will be. With
// merge a directory may stay.
func (a *applier) makeWay(d *directory, base string, merge bool) (occupant, error) {
	first := a.take(d, base)
	if first && d.fresh {
		return nobody, nil
	}
	return a.remove(d, base, merge, !first)
}

// take notes that base in d is given away and reports whether it is for the first time.
func (a *applier) take(d *directory, base string) bool {
	return a.taken.Add(a.nameHash(d.ino, base))
}

func (a *applier) nameHash(dir uint64, base string) uint64 {
	var h maphash.Hash
	h.SetSeed(a.seed)
	var ino [8]byte
	binary.NativeEndian.PutUint64(ino[:], dir)
	h.Write(ino[:])
	h.WriteString(base)
	return h.Sum64()
}

// remove removes what is at base in d. ours says that it may be of this layer.
func (a *applier) remove(d *directory, base string, keepDir, ours bool) (occupant, error) {
	if a.writers.pending(d, base) {
		if err := a.writers.drain(); err != nil {
			return nobody, err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if err == unix.ENOENT {
			return nobody, nil
		}
		return nobody, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if keepDir {
			return sameDirectory, nil
		}
		if err := a.writers.drain(); err != nil {
			return nobody, err
		}
		a.tree.forgetPaths()
		if err := a.removeTree(d, base); err != nil {
			return nobody, fmt.Errorf("remove directory: %w", err)
		}
		return removedOther, nil
	case unix.S_IFLNK:
		a.tree.forgetPaths()
	case unix.S_IFREG:
		if ours {
			if err := a.shadow(d.fd, base, &st); err != nil {
				return nobody, err
			}
		}
	}
	if err := unix.Unlinkat(d.fd, base, 0); err != nil {
		return nobody, fmt.Errorf("remove: %w", err)
	}
	if ours || layerdir.IsWhiteout(&st) {
		return removedHiding, nil
	}
	return removedOther, nil
}

// makeDir makes the directory base in d, or takes the one that is there, and gives it its
// attributes. Its times come when it is closed.
func (a *applier) makeDir(d *directory, base string, at *attrs, found occupant) error {
	if found != sameDirectory {
		if err := unix.Mkdirat(d.fd, base, at.mode&0o777); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	fd, err := openat.Dir(d.fd, base)
	if err != nil {
		return fmt.Errorf("open directory: %w", err)
	}
	made := found != sameDirectory
	dir, err := a.tree.adopt(fd, joinPath(d.path, base), dirFacts{fresh: made}, made)
	if err != nil {
		return err
	}
	dir.hold()
	defer dir.release()
	if made && d.acl {
		dropInherited(dir.fd)
		dir.acl = false
	}
	if found == removedHiding && a.opaque() != "" {
		// A member before said that the lower directory is gone, or took its place, so
		// the new one must not show its files.
		if err := a.makeOpaque(dir); err != nil {
			return err
		}
	}
	return a.setDir(dir, at, 1)
}

// makeParent makes the directory name in d, which an entry's path goes through but no
// entry has described so far: root's, for all to enter.
func (a *applier) makeParent(d *directory, name string, uid, gid uint32) error {
	if err := unix.Mkdirat(d.fd, name, 0o755); err != nil {
		return err
	}
	plain := a.proc.umask&0o755 == 0 && !d.acl
	ours := uid == a.proc.uid && gid == a.proc.gid && d.mode&unix.S_ISGID == 0 || a.opts.ForceMask != nil
	if plain && ours {
		return nil
	}
	fd, err := openat.Dir(d.fd, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !ours {
		if err := unix.Fchown(fd, int(uid), int(gid)); err != nil && !a.opts.IgnoreChownErrors {
			return err
		}
	}
	if d.acl {
		dropInherited(fd)
	}
	return unix.Fchmod(fd, 0o755)
}

// dropInherited takes from a new directory the ACLs that its parent's default ACL has
// given it. What can't be taken wasn't there.
func dropInherited(fd int) {
	_ = xattr.Open(fd).Remove(xattr.AccessACL)
	_ = xattr.Open(fd).Remove(xattr.DefaultACL)
}

// setDir puts the attributes of an entry on a directory. Nobody may be writing in it:
// what a new file gets depends on them. own is how many holds on it are the planner's.
func (a *applier) setDir(d *directory, at *attrs, own int32) error {
	if d.refs.Load() > own {
		if err := a.writers.drain(); err != nil {
			return err
		}
	}
	if a.opts.ForceMask == nil && (d.uid != at.uid || d.gid != at.gid) {
		if err := unix.Fchown(d.fd, int(at.uid), int(at.gid)); err == nil {
			d.uid, d.gid = at.uid, at.gid
		} else if !a.opts.IgnoreChownErrors {
			return ownerError(at, err)
		}
	}
	if d.mode != at.mode {
		if err := unix.Fchmod(d.fd, at.mode); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
		d.mode = at.mode
	}
	if err := a.setXattrs(at, xattr.Open(d.fd)); err != nil {
		return err
	}
	d.acl = d.acl || slices.ContainsFunc(at.xattrs, func(x tarstream.Xattr) bool { return x.Name == xattr.DefaultACL })
	if len(at.xattrs) > 0 { // an ACL among them is another way to set the mode
		var st unix.Stat_t
		if err := unix.Fstat(d.fd, &st); err != nil {
			return err
		}
		d.mode = st.Mode & 0o7777
	}
	d.timed, d.times = true, at.times
	a.tree.remember(d)
	return nil
}

// setRoot takes the member that stands for the root of the layer.
func (a *applier) setRoot(h *tarstream.Header, at *attrs) error {
	if h.Typeflag != tar.TypeDir {
		return fmt.Errorf("%w: the root of a layer can be a directory only", errdefs.ErrInvalid)
	}
	a.rootSeen = true
	return a.setDir(a.tree.root, at, 1)
}

// symlink makes a symlink. Its target is data, stored as it is: what it leads to is for
// those to say who will follow it.
func (a *applier) symlink(h *tarstream.Header, d *directory, base string, at *attrs) error {
	if err := unix.Symlinkat(h.Link, d.fd, base); err != nil {
		return fmt.Errorf("make symlink to %s: %w", shown(h.Link), err)
	}
	if len(at.xattrs) > 0 {
		return a.setNamed(d, base, at)
	}
	if a.opts.ForceMask == nil && (at.uid != a.proc.uid || at.gid != a.newGroup(d)) {
		if err := unix.Fchownat(d.fd, base, int(at.uid), int(at.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil &&
			!a.opts.IgnoreChownErrors {
			return ownerError(at, err)
		}
	}
	if err := unix.UtimesNanoAt(d.fd, base, at.times[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// makeNode makes a FIFO or device.
func (a *applier) makeNode(d *directory, base string, kind uint32, dev uint64, at *attrs) error {
	if err := unix.Mknodat(d.fd, base, kind|at.mode&0o777, int(dev)); err != nil {
		if err == unix.EPERM {
			return err
		}
		return fmt.Errorf("make node: %w", err)
	}
	return a.setNamed(d, base, at)
}

// link makes base in d another name of the member that h.link names.
func (a *applier) link(h *tarstream.Header, d *directory, base string, at *attrs) error {
	failed := func(err error) error { return fmt.Errorf("hard link to %s: %w", shown(h.Link), err) }
	// An absolute target is relative to the layer's root, like every other.
	p, err := tarstream.ParseName(strings.TrimLeft(h.Link, "/"))
	if err != nil {
		return failed(fmt.Errorf("%w: the target leads out of the layer", errdefs.ErrInvalid))
	}
	if p.Base == "" {
		return failed(fmt.Errorf("%w: it is the root", errdefs.ErrInvalid))
	}
	from, err := a.tree.find(p.Dir, false)
	if err != nil {
		return failed(err)
	}
	defer from.release()
	if from == d && p.Base == base {
		return failed(fmt.Errorf("%w: that is its own name", errdefs.ErrInvalid))
	}
	if a.writers.pending(from, p.Base) {
		if err := a.writers.drain(); err != nil {
			return err
		}
	}
	if a.isWhiteout(from, p.Base) {
		return failed(fmt.Errorf("%w: this layer removes it: %w", errdefs.ErrInvalid, unix.ENOENT))
	}
	if _, err := a.makeWay(d, base, false); err != nil {
		return err
	}
	if err := unix.Linkat(from.fd, p.Base, d.fd, base, 0); err != nil {
		if err == unix.EPERM {
			return failed(fmt.Errorf("%w: it is a directory: %w", errdefs.ErrInvalid, err))
		}
		return failed(err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return failed(err)
	}
	same := st.Mtim == at.times[1] && len(at.xattrs) == 0 &&
		(a.opts.ForceMask != nil || st.Uid == at.uid && st.Gid == at.gid) &&
		(st.Mode&0o7777 == at.mode || st.Mode&unix.S_IFMT == unix.S_IFLNK)
	if same {
		return nil
	}
	return a.setNamed(d, base, at) // the last name's header wins, for all of them
}

// note counts the owner of a member.
func (a *applier) note(h *tarstream.Header) {
	a.uids.Add(uint32(h.Uid))
	a.gids.Add(uint32(h.Gid))
}
