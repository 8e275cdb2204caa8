package apply

import (
	"archive/tar"
	"fmt"
	"slices"

	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

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
func (a *applier) makeParent(d *directory, name string) error {
	if err := unix.Mkdirat(d.fd, name, 0o755); err != nil {
		return err
	}
	plain := a.proc.umask&0o755 == 0 && !d.acl
	ours := a.rootUID == a.proc.uid && a.rootGID == a.proc.gid && d.mode&unix.S_ISGID == 0 || a.opts.ForceMask != nil
	if plain && ours {
		return nil
	}
	fd, err := openat.Dir(d.fd, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !ours {
		if _, err := a.chown(fd, "", a.rootUID, a.rootGID); err != nil {
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
		if done, err := a.chown(d.fd, "", at.uid, at.gid); err != nil {
			return err
		} else if done {
			d.uid, d.gid = at.uid, at.gid
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
