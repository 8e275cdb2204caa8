package apply

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/errdefs"
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
	found, err := a.clearName(d, base, typeflag == tar.TypeDir)
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
		if errors.Is(err, unix.EPERM) && a.proc.userns {
			// a user namespace can make no devices; images do without, since engines
			// mount their own /dev
			return nil, nil
		}
		return nil, err
	}
	return nil, fmt.Errorf("%w: unhandled tar header type %d (%q)", errdefs.ErrInvalid, h.Typeflag, h.Typeflag)
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

// note counts the owner of a member.
func (a *applier) note(h *tarstream.Header) {
	a.uids.Add(uint32(h.Uid))
	a.gids.Add(uint32(h.Gid))
}
