package diff

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/internal/readahead"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/eintr"
	"github.com/shalestore/shale/internal/layerdir"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// paxXattr is the prefix under which attributes travel in PAX headers; star(1) began it.
const paxXattr = "SCHILY.xattr."

// packer turns entries into bytes of a tar. Each worker has its own.
type packer struct {
	*packing
	xattrs *xattr.Reader
	header bytes.Buffer
}

func newPacker(p *packing) *packer { return &packer{packing: p, xattrs: xattr.NewReader()} }

func (p *packer) Drop(e entry) {
	if e.dir != nil {
		e.dir.Release()
	}
}

func (p *packer) Close() {}

// Fill writes the entry's header and content to out.
func (p *packer) Fill(ctx context.Context, e entry, out *readahead.ChunkWriter) error {
	switch e.as {
	case trailer:
		return out.Write(ctx, endOfArchive[:])
	case deletion:
		return p.writeHeader(ctx, out, &tar.Header{Name: e.path, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)})
	}
	err := p.packFile(ctx, e, out)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("/%s: %w", e.path, err)
}

func (p *packer) packFile(ctx context.Context, e entry, out *readahead.ChunkWriter) error {
	var file xattr.File
	fd := -1
	if e.as == asFile && e.st.Mode&unix.S_IFMT == unix.S_IFREG && e.st.Size > 0 {
		var err error
		if fd, err = layerdir.OpenFileAt(e.dir.FD, e.name, &e.st); err != nil {
			return vanished(e, err)
		}
		defer unix.Close(fd)
		file = xattr.Open(fd)
	} else {
		file = xattr.At(e.dir.FD, e.name)
	}
	if p.opts.OverrideStat && (layerdir.IsDir(&e.st) || e.st.Mode&unix.S_IFMT == unix.S_IFREG) {
		value, ok, err := p.xattrs.Get(file, archive.OverrideStatXattr)
		if ok && err == nil {
			err = archive.ApplyOverride(&e.st, string(value))
		}
		if err != nil {
			return vanished(e, err)
		}
	}
	hdr, opaque, err := p.headerOf(e, file)
	if err != nil {
		return vanished(e, err)
	}
	if err := p.writeHeader(ctx, out, hdr); err != nil {
		return err
	}
	if (opaque || e.opaque) && p.lowers.Hold(e.path) {
		return p.writeHeader(ctx, out, &tar.Header{
			Name: path.Join(e.path, archive.WhiteoutOpaque), Typeflag: tar.TypeReg,
			Mode: hdr.Mode & 0o777, Uid: hdr.Uid, Gid: hdr.Gid,
		})
	}
	if fd >= 0 && hdr.Size > 0 {
		return copyFile(ctx, fd, e.st.Size, out)
	}
	return nil
}

// vanished forgives that a file is gone, since in a live container they come and go,
// unless hard links to it will follow.
func vanished(e entry, err error) error {
	if errors.Is(err, unix.ENOENT) && e.as == asFile && (e.st.Nlink < 2 || layerdir.IsDir(&e.st)) {
		return nil
	}
	return err
}

// writeHeader leaves the header's format to archive/tar: USTAR where the values fit, else
// PAX, else GNU, which makes the bytes those of every other tool written in Go.
func (p *packer) writeHeader(ctx context.Context, out *readahead.ChunkWriter, hdr *tar.Header) error {
	p.header.Reset()
	if err := tar.NewWriter(&p.header).WriteHeader(hdr); err != nil {
		return fmt.Errorf("%w: %w", errdefs.ErrInvalid, err)
	}
	return out.Write(ctx, p.header.Bytes())
}

// copyFile writes the content of a file, which has size bytes, and the zeros up to the
// next block.
func copyFile(ctx context.Context, fd int, size int64, out *readahead.ChunkWriter) error {
	for left := size; left > 0; {
		space, err := out.Room(ctx)
		if err != nil {
			return err
		}
		// Asking for one byte more than there should be tells that the file grew, and
		// costs no further call.
		n, err := eintr.ReadFull(fd, space[:min(int64(len(space)), left+1)])
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("shrank from %d to %d bytes while it was read", size, size-left)
		}
		if int64(n) > left {
			return fmt.Errorf("grew beyond its %d bytes while it was read", size)
		}
		out.Grow(n)
		left -= int64(n)
	}
	var zeros [512]byte
	return out.Write(ctx, zeros[:-size&511])
}

// headerOf describes a file, and tells whether it is an opaque directory of an overlay
// upper.
func (p *packer) headerOf(e entry, file xattr.File) (hdr *tar.Header, opaque bool, err error) {
	st := &e.st
	hdr = &tar.Header{
		Name:    e.tarName(),
		Mode:    int64(st.Mode & 0o7777),
		Uid:     int(st.Uid),
		Gid:     int(st.Gid),
		ModTime: time.Unix(st.Mtim.Sec, 0), // whole seconds, rounded down: what a reader without PAX can compare with
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		hdr.Typeflag, hdr.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		hdr.Typeflag = tar.TypeDir
	case unix.S_IFLNK:
		hdr.Typeflag = tar.TypeSymlink
		if hdr.Linkname, err = layerdir.ReadlinkAt(e.dir.FD, e.name); err != nil {
			return nil, false, err
		}
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			hdr.Typeflag = tar.TypeBlock
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return nil, false, fmt.Errorf("%w: file of type %#o", errdefs.ErrInvalid, st.Mode&unix.S_IFMT)
	}
	opaque, err = p.addXattrs(hdr, file)
	if err != nil {
		return nil, false, err
	}
	if e.as == hardLink {
		hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, e.link, 0
	}
	if err := p.mapOwner(hdr, e); err != nil {
		return nil, false, err
	}
	if e.whiteout {
		// All whiteouts of an upper may be one inode (Linux 5.8). The link name then
		// stays, without a meaning for this type, since containers/storage leaves it
		// there.
		hdr.Typeflag, hdr.Mode, hdr.Size = tar.TypeReg, 0, 0
	}
	return hdr, opaque, nil
}

// addXattrs puts the attributes that a layer carries into the header.
func (p *packer) addXattrs(hdr *tar.Header, file xattr.File) (opaque bool, err error) {
	names, err := p.xattrs.List(file)
	if err != nil {
		return false, err
	}
	total := 0
	for raw := range xattr.All(names) {
		name := string(raw)
		if p.overlay != nil {
			switch name {
			case p.overlay.Opaque:
				value, ok, err := p.xattrs.Get(file, name)
				if err != nil {
					return false, err
				}
				opaque = ok && string(value) == "y" && hdr.Typeflag == tar.TypeDir
			case p.overlay.Redirect, p.overlay.Metacopy:
				if len(p.lowers.FDs) > 0 {
					return false, fmt.Errorf("attribute %s: reading the upper directory alone: %w", name,
						errdefs.ErrUnsupported)
				}
			}
		}
		if !exported(name) || (p.opts.OverrideStat && name == archive.OverrideStatXattr) {
			continue
		}
		value, ok, err := p.xattrs.Get(file, name)
		if errors.Is(err, unix.E2BIG) { // larger than any read can ask for: a network file system's
			continue
		}
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		if total += len(name) + len(value); total > xattrsMax {
			return false, fmt.Errorf("%w: extended attributes of more than %d bytes", errdefs.ErrInvalid, xattrsMax)
		}
		if name == "security.capability" {
			if value, err = containerCapability(value, p.opts.IDMap); err != nil {
				return false, err
			}
		}
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = map[string]string{}
		}
		hdr.PAXRecords[paxXattr+name] = string(value)
	}
	return opaque, nil
}

// mapOwner turns the owner on disk into the one that the container sees.
func (p *packer) mapOwner(hdr *tar.Header, e entry) error {
	m := p.opts.IDMap
	if m.IsIdentity() {
		return nil
	}
	uid, gid, err := m.ToContainer(e.st.Uid, e.st.Gid)
	if err != nil && e.whiteout {
		// The kernel makes whiteouts as whoever mounted the overlay. Nobody reads their
		// owner, and losing one would bring a file back.
		uid, gid, err = 0, 0, nil
	}
	hdr.Uid, hdr.Gid = int(uid), int(gid)
	return err
}

// Layout of security.capability (include/uapi/linux/capability.h): a magic with a
// revision in its top byte, capability sets, and since revision 3 the user that is root
// in the namespace that the capabilities belong to.
const (
	capRevisionMask = 0xff000000
	capRevision2    = 0x02000000
	capRevision3    = 0x03000000
	capSizeV2       = 20
	capSizeV3       = 24
)

// containerCapability turns a file capability as the host sees it into the container's: a
// capability of the container's root becomes one of revision 2, which is what the kernel
// shows inside. Where IDs aren't mapped it stays as it is.
func containerCapability(value []byte, m idtools.Mapping) ([]byte, error) {
	if m.IsIdentity() || len(value) != capSizeV3 {
		return value, nil
	}
	magic := binary.LittleEndian.Uint32(value)
	if magic&capRevisionMask != capRevision3 {
		return value, nil
	}
	host := binary.LittleEndian.Uint32(value[capSizeV2:])
	root, _, err := idtools.Mapping{UIDs: m.UIDs}.ToContainer(host, 0)
	if err != nil {
		return nil, fmt.Errorf("file capability: %w", err)
	}
	out := append([]byte(nil), value...)
	if root == 0 {
		binary.LittleEndian.PutUint32(out, magic&^capRevisionMask|capRevision2)
		return out[:capSizeV2], nil
	}
	binary.LittleEndian.PutUint32(out[capSizeV2:], root)
	return out, nil
}

// xattrsMax bounds what one file's attributes may take in a tar header. Go's readers
// refuse a PAX header beyond 1 MiB, so a larger one would only make an archive that
// nobody can read.
const xattrsMax = 1 << 20

// exported reports whether an attribute belongs into a layer's tar: file capabilities,
// IMA signatures and what users set, except the books of an unprivileged overlay mount.
// Labels, ACLs and trusted attributes are the host's.
func exported(name string) bool {
	switch {
	case name == "security.capability", name == "security.ima":
		return true
	case strings.HasPrefix(name, "user."):
		return !strings.HasPrefix(name, "user.overlay.")
	}
	return false
}
