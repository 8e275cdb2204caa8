package verify

import (
	"archive/tar"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// attributes compares owner, mode and time with every header that describes the file; one
// that fits is enough, field by field.
func (c *treeCheck) attributes(n *expected, st *unix.Stat_t, overridden bool, differ func(string, ...any)) {
	fits := func(test func(attributesOf) bool) bool { return slices.ContainsFunc(n.as, test) }
	last := n.as[len(n.as)-1]
	if !c.opts.AnyOwner && (!c.opts.ForceMask || overridden) {
		owner := func(as attributesOf) (uid, gid uint32, known bool) {
			if as.uid != int64(uint32(as.uid)) || as.gid != int64(uint32(as.gid)) {
				return 0, 0, false
			}
			uid, gid, err := c.ids.ToHost(uint32(as.uid), uint32(as.gid))
			return uid, gid, err == nil
		}
		if !fits(func(as attributesOf) bool { uid, _, known := owner(as); return !known || uid == st.Uid }) {
			differ("uid:%d→%d", last.uid, c.shown(st.Uid, true))
		}
		if !fits(func(as attributesOf) bool { _, gid, known := owner(as); return !known || gid == st.Gid }) {
			differ("gid:%d→%d", last.gid, c.shown(st.Gid, false))
		}
	}
	hasACL := func(as attributesOf) bool { // which sets the group's bits as well
		return slices.ContainsFunc(as.xattrs, func(x tarstream.Xattr) bool {
			return strings.HasPrefix(x.Name,
				"system.posix_acl_")
		})
	}
	mode := st.Mode & 0o7777
	if n.kind != tar.TypeSymlink && (!c.opts.ForceMask || overridden) &&
		!fits(func(as attributesOf) bool { return as.mode == mode || hasACL(as) }) {
		differ("mode:%04o→%04o", last.mode, mode)
	}
	// containers/storage loses those of directories when it changes owners
	if !c.opts.AnyTime && !n.timeless && (len(c.opts.Own) == 1 || !n.isDir()) &&
		!fits(func(as attributesOf) bool { return sameRecordedTime(as.mtime.Sec, st.Mtim.Sec) }) {
		differ("mtime:%d→%d", last.mtime.Sec, st.Mtim.Sec)
	}
}

// shown is an owner in the container's numbers, where it has one there.
func (c *treeCheck) shown(id uint32, user bool) uint32 {
	m := idtools.Mapping{UIDs: c.opts.IDMap.UIDs}
	if !user {
		m = idtools.Mapping{UIDs: c.opts.IDMap.GIDs}
	}
	if inside, _, err := m.ToContainer(id, 0); err == nil {
		return inside
	}
	return id
}

// sameRecordedTime compares whole seconds, which every file system keeps. Times before
// 1970 are 1970 where containers/storage has unpacked, and those that don't fit 32 bits
// are whatever the file system makes of them.
func sameRecordedTime(recorded, found int64) bool {
	return recorded == found || recorded < 0 && found == 0 || recorded != int64(int32(recorded))
}

// extended compares the attributes that a tar carries: capabilities and those of users.
// One that the file system can't hold isn't missed.
func (c *treeCheck) extended(n *expected, file xattr.File, differ func(string, ...any)) error {
	if n.kind != tar.TypeReg && n.kind != tar.TypeDir {
		return nil
	}
	inherited := n.layer != c.expect.layer // copies keep no others, where containers/storage makes them
	counts := func(name string) bool {
		if name == "security.capability" {
			return true
		}
		return !inherited && strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") &&
			!strings.HasPrefix(name, "user.containers.") && !strings.HasPrefix(name, "user.fuseoverlayfs.")
	}
	recorded := map[string][]string{}
	for _, as := range n.as {
		for _, x := range as.xattrs {
			recorded[x.Name] = append(recorded[x.Name], x.Value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(recorded)) {
		if !counts(name) {
			continue
		}
		value, there, possible, err := c.attribute(file, name)
		switch {
		case err != nil:
			return err
		case !there && slices.Contains(recorded[name], ""): // containers/storage doesn't see these in a tar
		case !there && possible:
			differ("-%s", name)
		case there && !slices.ContainsFunc(recorded[name],
			func(want string) bool { return sameAttribute(name, want, value) }):
			differ("%s", name)
		}
	}
	names, err := c.xattrs.List(file)
	if err != nil {
		return err
	}
	for raw := range xattr.All(names) {
		if name := string(raw); counts(name) && recorded[name] == nil {
			differ("+%s", name)
		}
	}
	return nil
}

// attribute reads one, and tells whether the file could have it.
func (c *treeCheck) attribute(file xattr.File, name string) (value string, there, possible bool, err error) {
	got, there, err := c.xattrs.Get(file, name)
	if there || err != nil {
		return string(got), there, true, err
	}
	_, err = file.Size(name)
	return "", false, errors.Is(err, unix.ENODATA), nil
}

// sameAttribute compares values. The kernel gives a capability the form, and the user
// namespace, that fit who reads it.
func sameAttribute(name, want, got string) bool {
	const bits, end = 4, 20 // between the magic number and the root's ID: what is permitted and inheritable
	if name == "security.capability" && len(want) >= end && len(got) >= end {
		return want[bits:end] == got[bits:end]
	}
	return want == got
}
