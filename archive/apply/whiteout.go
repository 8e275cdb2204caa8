package apply

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/dirent"
	"github.com/shalestore/shale/internal/layerdir"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// In a layer's tar the absence of a lower file is written as an empty file ".wh.<name>",
// and that of all lower files of a directory as ".wh..wh..opq" in it (OCI image-spec,
// layer.md "Whiteouts"; the form is that of AUFS).

// whiteoutEntry is what a member's name says about lower files.
type whiteoutEntry struct {
	is      bool
	ignored bool   // neither a file nor an absence: AUFS's own
	scratch bool   // a file that is there for hard links to it alone
	opaque  bool   // everything in the directory
	name    string // or this
}

// whiteoutAt tells whether the name at p is that of a whiteout.
func (a *applier) whiteoutAt(p tarstream.Place, typeflag byte) (whiteoutEntry, error) {
	if a.opts.Whiteouts == archive.LiteralWhiteouts {
		return whiteoutEntry{}, nil
	}
	first, _, _ := strings.Cut(joinPath(p.Dir, p.Base), "/")
	if strings.HasPrefix(first, archive.AUFSPrefix) && first != archive.WhiteoutOpaque {
		scratch := first == archive.AUFSLinks && (p.Dir == "" && typeflag == tar.TypeDir || p.Dir == first &&
			typeflag == tar.TypeReg)
		return whiteoutEntry{ignored: !scratch, scratch: scratch}, nil
	}
	if p.Base == archive.WhiteoutOpaque {
		return whiteoutEntry{is: true, opaque: true}, nil
	}
	name, ok := strings.CutPrefix(p.Base, archive.WhiteoutPrefix)
	if !ok {
		return whiteoutEntry{}, nil
	}
	if name == "" || name == "." || name == ".." {
		return whiteoutEntry{}, fmt.Errorf("%w: invalid whiteout, of %q", errdefs.ErrInvalid, name)
	}
	return whiteoutEntry{is: true, name: name}, nil
}

// removeScratch removes what was there for hard links alone. Its content is among the
// bytes of the recorded tar.
func (a *applier) removeScratch() error {
	if !a.scratch {
		return nil
	}
	a.split = nil
	if _, err := a.remove(a.tree.root, archive.AUFSLinks, false, false); err != nil {
		return fmt.Errorf("remove %s: %w", archive.AUFSLinks, err)
	}
	return nil
}

// opaque is the name of overlayfs's attribute for a directory that hides the lower ones;
// "" when this apply makes none.
func (a *applier) opaque() string { return opaqueAttr(a.opts.Whiteouts) }

func opaqueAttr(form archive.WhiteoutForm) string {
	switch form {
	case archive.OverlayTrusted:
		return "trusted.overlay.opaque"
	case archive.OverlayUser:
		return "user.overlay.opaque"
	}
	return ""
}

// applyWhiteout carries a whiteout in d out, or writes it down for overlayfs. It is about
// lower layers alone: what this layer has under its name stays, wherever in the archive
// that stands (OCI image-spec, layer.md "Whiteouts").
func (a *applier) applyWhiteout(d *directory, w whiteoutEntry, at *attrs) error {
	if w.opaque {
		a.result.OpaqueRoot = a.result.OpaqueRoot || d == a.tree.root
		return a.hideLower(d)
	}
	if a.take(d, w.name) {
		if _, err := a.remove(d, w.name, false, false); err != nil {
			return err
		}
	} else if found, err := a.keepOwn(d, w.name); found || err != nil {
		return err
	}
	if a.opaque() == "" {
		return nil
	}
	a.result.Whiteouts++
	// A device number of 0:0 is no device; user namespaces may make it (Linux 5.8).
	if err := unix.Mknodat(d.fd, w.name, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("make whiteout: %w", err)
	}
	if a.opts.ForceMask != nil || at.uid == a.proc.uid && at.gid == a.newGroup(d) {
		return nil
	}
	_, err := a.chown(d.fd, w.name, at.uid, at.gid)
	return err
}

// keepOwn reports whether this layer has put something at name in d, and sees to it that
// nothing of a lower directory shows in it.
func (a *applier) keepOwn(d *directory, name string) (found bool, err error) {
	if a.writers.pending(d, name) {
		return true, nil
	}
	fd, err := openat.Dir(d.fd, name)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return true, nil // no directory: it hides what is lower as it stands, also if it is a whiteout
	}
	sub, err := a.tree.adopt(fd, joinPath(d.path, name), dirFacts{}, false)
	if err != nil {
		return true, err
	}
	defer sub.hold().release()
	return true, a.hideLower(sub)
}

// hideLower makes a directory show this layer's files only.
func (a *applier) hideLower(d *directory) error {
	if err := a.removeLower(d); err != nil || a.opaque() == "" {
		return err
	}
	return a.makeOpaque(d)
}

// revive makes a directory in place of a whiteout of this layer, for what an archive puts
// into it without an entry for it. It reports whether there was one.
func (a *applier) revive(d *directory, name string) (bool, error) {
	if !a.isWhiteout(d, name) {
		return false, nil
	}
	if err := unix.Unlinkat(d.fd, name, 0); err != nil {
		return true, err
	}
	if err := a.makeParent(d, name); err != nil {
		return true, err
	}
	fd, err := openat.Dir(d.fd, name)
	if err != nil {
		return true, err
	}
	defer unix.Close(fd)
	return true, a.makeOpaque(&directory{fd: fd})
}

// isWhiteout reports whether overlay's form of a whiteout is at name in d.
func (a *applier) isWhiteout(d *directory, name string) bool {
	var st unix.Stat_t
	return a.opaque() != "" && layerdir.StatAt(d.fd, name, &st) == nil && layerdir.IsWhiteout(&st)
}

func (a *applier) makeOpaque(d *directory) error {
	if err := xattr.Open(d.fd).Set(a.opaque(), []byte("y"), 0); err != nil {
		return fmt.Errorf("make directory opaque: %w", err)
	}
	return nil
}

// removeLower removes from d what was there before this apply.
func (a *applier) removeLower(d *directory) error {
	if d.fresh {
		return nil
	}
	if err := a.writers.drain(); err != nil {
		return err
	}
	list, err := dirent.List(d.fd)
	if err != nil {
		return err
	}
	for _, e := range list {
		name := e.Name
		if !a.taken.Has(a.nameHash(d.ino, name)) {
			if _, err := a.remove(d, name, false, false); err != nil {
				return fmt.Errorf("%s: %w", shown(name), err)
			}
			continue
		}
		// What this layer has put here stays; but in a directory that was here before,
		// only what it has put there.
		fd, err := openat.Dir(d.fd, name)
		if err != nil {
			continue // no directory
		}
		sub, err := a.tree.adopt(fd, joinPath(d.path, name), dirFacts{}, false)
		if err != nil {
			return err
		}
		err = a.removeLower(sub.hold())
		sub.release()
		if err != nil {
			return err
		}
	}
	return nil
}
