package fsat

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"

	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// Owners gives a file's new owners for its old ones. Each function may be called from
// several goroutines.
type Owners struct {
	// File translates the owner of a file.
	File func(uid, gid uint32) (newUID, newGID uint32, err error)
	// UID and GID translate the IDs within ACLs and file capabilities. False means that
	// the ID has no counterpart, and stays as it is.
	UID, GID func(id uint32) (uint32, bool)
}

// ChownTree gives everything in the directory dir, and dir itself, other owners. Nothing
// else changes but what depends on owners: setuid and setgid bits, file capabilities and
// times are put back where chown(2) takes them away, and the IDs in ACLs and file
// capabilities are translated. Files whose owners stay the same aren't touched.
//
// Names of one file stay names of one file, even where chown separates them: overlayfs
// copies a file up under the one name that was used
// (Documentation/filesystems/overlayfs.rst, index=off), and the others would go on
// showing the old one.
//
// Several directories are worked on at a time, all by descriptor; symlinks aren't
// followed and what is mounted within isn't entered. When it fails, or ctx ends, the tree
// is left half done.
func ChownTree(ctx context.Context, dir string, owners Owners) error {
	if err := ctx.Err(); err != nil {
		return err // with nothing changed: a tree that is half done can't be done again
	}
	top, err := openat.At(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(top)
	c := &chowner{top: top, owners: owners, links: map[inode]*linked{}, queue: []string{""},
		xattrs: sync.Pool{New: func() any { return xattr.NewReader() }}}
	c.wake.L = &c.mu
	stop := context.AfterFunc(ctx, func() { c.fail(ctx.Err()) })
	defer stop()
	var st unix.Stat_t
	if err := unix.Fstat(top, &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if err := c.change(top, ".", &st); err != nil {
		return fmt.Errorf("change owners in %s: %w", dir, err)
	}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0)*2, 16) { // more than processors: a copy up waits for the disk
		workers.Go(c.work)
	}
	workers.Wait()
	if err := errors.Join(c.err, c.restoreTimes()); err != nil {
		return fmt.Errorf("change owners in %s: %w", dir, err)
	}
	return nil
}

// chowner is one call of ChownTree.
type chowner struct {
	top    int
	owners Owners
	xattrs sync.Pool // of readers

	mu    sync.Mutex // guards what follows
	wake  sync.Cond
	queue []string // directories to do, from the top
	busy  int      // workers that have a directory in hand and may find more
	err   error

	linksMu sync.Mutex // held while a file with several names is worked on; guards what follows
	links   map[inode]*linked
	times   []dirTimes
}

// linked is a file with several names, as it is since its first one was met.
type linked struct {
	path string // from the top
	now  inode
}

// dirTimes is a directory in which a name was replaced.
type dirTimes struct {
	path         string
	atime, mtime unix.Timespec
}

func (c *chowner) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	c.wake.Broadcast()
}

// next takes a directory off the queue; false means that there won't be any more.
func (c *chowner) next() (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 && c.busy > 0 && c.err == nil {
		c.wake.Wait()
	}
	if len(c.queue) == 0 || c.err != nil {
		return "", false
	}
	dir := c.queue[len(c.queue)-1]
	c.queue = c.queue[:len(c.queue)-1]
	c.busy++
	return dir, true
}

func (c *chowner) done(found []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	c.queue = append(c.queue, found...)
	c.wake.Broadcast()
}

func (c *chowner) work() {
	for {
		dir, ok := c.next()
		if !ok {
			return
		}
		found, err := c.dir(dir)
		if err != nil {
			if dir != "" {
				err = fmt.Errorf("%s: %w", strconv.Quote(dir), err)
			}
			c.fail(err)
		}
		c.done(found)
	}
}

// dir changes the entries of a directory and returns those that are directories
// themselves.
func (c *chowner) dir(rel string) (found []string, err error) {
	fd, err := openDir(c.top, rel)
	if errors.Is(err, unix.EXDEV) {
		return nil, nil // a mount point
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	err = eachName(fd, func(name string) error {
		if err := c.stopped(); err != nil {
			return err
		}
		var st unix.Stat_t
		err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil {
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				found = append(found, filepath.Join(rel, name))
			} else if st.Nlink > 1 {
				return c.link(fd, rel, name, &st)
			}
			err = c.change(fd, name, &st)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", strconv.Quote(name), err)
		}
		return nil
	})
	return found, err
}

func (c *chowner) stopped() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// link changes a file that has several names, when its first one comes by, and joins the
// others to it.
func (c *chowner) link(dir int, rel, name string, st *unix.Stat_t) error {
	c.linksMu.Lock()
	defer c.linksMu.Unlock()
	// Looked at again: another worker may have changed it under another name since.
	if err := unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	is := inode{uint64(st.Dev), st.Ino}
	first, known := c.links[is]
	if !known {
		if err := c.change(dir, name, st); err != nil {
			return err
		}
		var now unix.Stat_t
		if err := unix.Fstatat(dir, name, &now, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		first = &linked{path: filepath.Join(rel, name), now: inode{uint64(now.Dev), now.Ino}}
		c.links[is], c.links[first.now] = first, first
		return nil
	}
	if first.now == is {
		return nil
	}
	var parent unix.Stat_t
	if err := unix.Fstat(dir, &parent); err != nil {
		return err
	}
	c.times = append(c.times, dirTimes{rel, parent.Atim, parent.Mtim})
	at, base := filepath.Split(first.path)
	from, err := openDir(c.top, at)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	if err := unix.Unlinkat(dir, name, 0); err != nil {
		return err
	}
	return unix.Linkat(from, base, dir, name, 0)
}

// restoreTimes undoes what replacing names did to their directories' times. The last
// entry of a directory may show what the first one caused, so they are gone through
// backwards.
func (c *chowner) restoreTimes() error {
	for i := len(c.times) - 1; i >= 0; i-- {
		t := c.times[i]
		fd, err := openDir(c.top, t.path)
		if err == nil {
			err = unix.UtimesNanoAt(unix.AT_FDCWD, openat.ProcPath(fd), []unix.Timespec{t.atime, t.mtime}, 0)
			unix.Close(fd)
		}
		if err != nil {
			return fmt.Errorf("restore times of %s: %w", strconv.Quote(t.path), err)
		}
	}
	return nil
}

// change gives one file its new owner. The order matters: chown removes setuid bits and
// capabilities, and a chmod after an ACL was set would change the ACL's mask.
func (c *chowner) change(dir int, name string, st *unix.Stat_t) error {
	uid, gid, err := c.owners.File(st.Uid, st.Gid)
	if err != nil {
		return err
	}
	moves := uid != st.Uid || gid != st.Gid
	symlink := st.Mode&unix.S_IFMT == unix.S_IFLNK
	file := xattr.At(dir, name)
	var attrs []attribute
	if !symlink {
		if attrs, err = c.ownerAttrs(file, moves); err != nil {
			return err
		}
	}
	if moves {
		if err := unix.Fchownat(dir, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
		if !symlink && st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
			// fchmodat(2) follows symlinks, and this name is none.
			if err := unix.Fchmodat(dir, name, st.Mode&0o7777, 0); err != nil {
				return fmt.Errorf("chmod: %w", err)
			}
		}
	} else if len(attrs) == 0 {
		return nil
	}
	for _, attr := range attrs {
		if err := file.Set(attr.name, attr.value, 0); err != nil {
			return xattrError(attr.name, err)
		}
	}
	return nil
}

type attribute struct {
	name  string
	value []byte
}

// ownerAttrs returns the attributes of a file that name IDs, or that get lost if it moves
// to another owner, as they are to be afterwards.
func (c *chowner) ownerAttrs(file xattr.File, moves bool) ([]attribute, error) {
	r := c.xattrs.Get().(*xattr.Reader)
	defer c.xattrs.Put(r)
	names, err := r.List(file)
	if err != nil {
		return nil, err
	}
	var attrs []attribute
	for len(names) > 0 {
		var raw []byte
		raw, names = xattr.Next(names)
		name := string(raw)
		if name != xattr.Capability && name != xattr.AccessACL && name != xattr.DefaultACL {
			continue
		}
		value, there, err := r.Get(file, name)
		// EOVERFLOW: a capability of a root that has no ID here
		if !there && err == nil || errors.Is(err, unix.EOVERFLOW) {
			continue
		}
		if err != nil {
			return nil, err
		}
		value = bytes.Clone(value)
		var changed bool
		if name == xattr.Capability {
			changed = translateCapability(value, c.owners.UID) || moves
		} else {
			changed = translateACL(value, c.owners)
		}
		if changed {
			attrs = append(attrs, attribute{name, value})
		}
	}
	return attrs, nil
}

// translateCapability changes the root ID of a capability in its third revision (struct
// vfs_ns_cap_data of linux/capability.h) and reports whether it did. Those of the second
// revision belong to every namespace's root or to none.
func translateCapability(value []byte, uid func(uint32) (uint32, bool)) bool {
	const size, revisionMask, revision3 = 24, 0xff000000, 0x03000000
	if len(value) != size || binary.LittleEndian.Uint32(value)&revisionMask != revision3 {
		return false
	}
	old := binary.LittleEndian.Uint32(value[20:])
	root, ok := uid(old)
	if !ok || root == old {
		return false
	}
	binary.LittleEndian.PutUint32(value[20:], root)
	return true
}

// translateACL changes the IDs of the entries for users and groups
// (linux/posix_acl_xattr.h: a version, then entries of tag, permissions and ID) and
// reports whether any did.
func translateACL(value []byte, owners Owners) (changed bool) {
	const header, entry, user, group = 4, 8, 0x02, 0x08
	if len(value) < header || binary.LittleEndian.Uint32(value) != 2 {
		return false
	}
	for e := value[header:]; len(e) >= entry; e = e[entry:] {
		translate := owners.UID
		switch binary.LittleEndian.Uint16(e) {
		case user:
		case group:
			translate = owners.GID
		default:
			continue
		}
		old := binary.LittleEndian.Uint32(e[4:])
		if id, ok := translate(old); ok && id != old {
			binary.LittleEndian.PutUint32(e[4:], id)
			changed = true
		}
	}
	return changed
}
