package apply

import (
	"fmt"
	"strings"

	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

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
		if _, err := a.chown(d.fd, base, at.uid, at.gid); err != nil {
			return err
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
	if err := a.writers.finish(from, p.Base); err != nil {
		return err
	}
	if a.isWhiteout(from, p.Base) {
		return failed(fmt.Errorf("%w: this layer removes it: %w", errdefs.ErrInvalid, unix.ENOENT))
	}
	if _, err := a.clearName(d, base, false); err != nil {
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
