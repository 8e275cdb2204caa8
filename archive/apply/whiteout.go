package apply

import (
	"fmt"
	"strings"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/dirent"
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
	opaque  bool   // everything in the directory
	name    string // or this
}

// whiteoutAt tells whether the name at p is that of a whiteout.
func (a *applier) whiteoutAt(p tarstream.Place) (whiteoutEntry, error) {
	if a.opts.Whiteouts == archive.LiteralWhiteouts {
		return whiteoutEntry{}, nil
	}
	first, _, _ := strings.Cut(p.Dir+"/"+p.Base, "/")
	if p.Dir == "" {
		first = p.Base
	}
	if strings.HasPrefix(first, archive.AUFSPrefix) && first != archive.WhiteoutOpaque {
		return whiteoutEntry{ignored: true}, nil
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

// opaque is the name of overlayfs's attribute for a directory that hides the lower ones;
// "" when this apply makes none.
func (a *applier) opaque() string {
	switch a.opts.Whiteouts {
	case archive.OverlayTrusted:
		return "trusted.overlay.opaque"
	case archive.OverlayUser:
		return "user.overlay.opaque"
	}
	return ""
}

// applyWhiteout carries a whiteout in d out, or writes it down for overlayfs.
func (a *applier) applyWhiteout(d *directory, w whiteoutEntry, at *attrs) error {
	overlay := a.opaque() != ""
	switch {
	case w.opaque && overlay:
		return a.makeOpaque(d)
	case w.opaque:
		return a.removeLower(d)
	}
	if _, err := a.makeWay(d, w.name, false); err != nil || !overlay {
		return err
	}
	// A device number of 0:0 is no device; user namespaces may make it (Linux 5.8).
	if err := unix.Mknodat(d.fd, w.name, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("make whiteout: %w", err)
	}
	if a.opts.ForceMask != nil || at.uid == a.proc.uid && at.gid == a.newGroup(d) {
		return nil
	}
	if err := unix.Fchownat(d.fd, w.name, int(at.uid), int(at.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil &&
		!a.opts.IgnoreChownErrors {
		return ownerError(at, err)
	}
	return nil
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
