package quota

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// Limits are what the files of a project may take at most. Both are hard: what would go
// beyond fails, with EDQUOT or, on XFS, ENOSPC. 0 is no limit.
type Limits struct {
	// Bytes of blocks, rounded up to KiB. The file system hands them out in blocks of its
	// own.
	Bytes uint64
	// Inodes counts files, directories and everything else, the project's topmost
	// directory included.
	Inodes uint64
}

// IsZero reports whether there is no limit at all.
func (l Limits) IsZero() bool { return l == Limits{} }

// String is for messages.
func (l Limits) String() string { return fmt.Sprintf("%d bytes and %d inodes", l.Bytes, l.Inodes) }

// Usage is what the files of a project take.
type Usage struct {
	// Bytes of blocks, those of directories included, and those that XFS has set aside
	// for files that grow.
	Bytes  int64
	Inodes int64
}

// Home is a directory whose subdirectories have projects of their own. It may be used by
// several goroutines and processes at once.
type Home struct {
	path string
	base uint32 // the range of IDs that belongs to it begins after this one
	// byNode is control.byNode.
	byNode bool
}

// Open makes a directory a Home, or returns errdefs.ErrUnsupported with what the file
// system lacks. The directory is kept from handing down a project of its own, which
// `xfs_quota -x -c 'project -s'` makes it do, since no layer could then be renamed in.
func Open(path string) (*Home, error) { return open(path, false) }

func open(path string, byNode bool) (*Home, error) {
	h := &Home{path: path, byNode: byNode}
	f, err := openDir(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := h.control(f).supported(); err != nil {
		return nil, err
	}
	if err := StopInheritance(path); err != nil {
		return nil, err
	}
	if h.base, err = baseProject(f); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Home) control(home *os.File) control {
	return control{dir: home, byNode: h.byNode}
}

// rangeSize is how many IDs containers/storage means a home to have.
const rangeSize = 10_000

// baseProject is where a home's range begins: the project that an administrator has put
// it into, else a number made of its inode, as containers/storage makes it.
func baseProject(home *os.File) (uint32, error) {
	a, err := attributes(home)
	if err != nil || a.project != 0 {
		return a.project, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(home.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: home.Name(), Err: err}
	}
	return uint32(rangeSize + st.Ino*rangeSize%(math.MaxUint32-rangeSize)), nil
}

// Assign puts dir, which must be empty and on the home's file system, into a project of
// its own with these limits, which may be none: then its files are only counted.
func (h *Home) Assign(ctx context.Context, dir string, l Limits) error {
	if err := h.assign(ctx, dir, l); err != nil {
		return fmt.Errorf("limit %s: %w", dir, err)
	}
	return nil
}

func (h *Home) assign(ctx context.Context, dir string, l Limits) error {
	f, err := openDir(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	home, err := h.lock(ctx)
	if err != nil {
		return err
	}
	defer home.Close()
	c := h.control(home)
	project, err := h.unused(ctx, c)
	if err != nil {
		return err
	}
	// A project without files may still have the limits of those that it had. If we die
	// between the next two steps, so will this one.
	if err := c.set(project, l); err != nil {
		return err
	}
	err = enter(f, project)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: %w", errdefs.ErrUnsupported, err)
	}
	return err
}

// lock keeps other processes from choosing an ID until the returned file is closed, which
// is soon. It is flock(2) on the directory itself: a file for it would look like a layer
// to containers/storage.
func (h *Home) lock(ctx context.Context) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := openDir(h.path)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", h.path, err)
		}
		return f, nil
	}
}

// unused chooses a project without files. containers/storage looks once, when a process
// of it starts, and counts up from the highest ID in the home. So a process of it that is
// already running doesn't see what we choose: we count down from the middle of the range,
// where it comes last.
func (h *Home) unused(ctx context.Context, c control) (uint32, error) {
	const most = 100 * rangeSize // beyond its range, as containers/storage
	middle := uint64(h.base) + rangeSize/2
	for n := uint64(0); n < most; n++ {
		id := middle - n
		if n >= rangeSize/2 {
			id = uint64(h.base) + n + 1
		}
		if id >= math.MaxUint32 { // an administrator may have chosen a base up there
			continue
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		d, err := c.get(uint32(id))
		if err != nil {
			return 0, err
		}
		if d.inodes == 0 && d.space == 0 {
			return uint32(id), nil
		}
	}
	return 0, fmt.Errorf("%w: all project IDs of %s are in use", errdefs.ErrBusy, h.path)
}

// Read returns the limits and the usage of a directory that has a project of its own, and
// errdefs.ErrNotFound for one that hasn't.
func (h *Home) Read(dir string) (Limits, Usage, error) {
	var d dqblk
	err := h.with(dir, func(c control, project uint32) (err error) {
		d, err = c.get(project)
		return err
	})
	if err != nil {
		return Limits{}, Usage{}, fmt.Errorf("quota of %s: %w", dir, err)
	}
	return Limits{Bytes: d.blockHard * blockSize, Inodes: d.inodeHard},
		Usage{Bytes: int64(d.space), Inodes: int64(d.inodes)}, nil
}

// Change replaces the limits of a directory that has a project of its own;
// errdefs.ErrNotFound for one that hasn't. Files that are beyond the new ones already
// stay.
func (h *Home) Change(dir string, l Limits) error {
	err := h.with(dir, func(c control, project uint32) error { return c.set(project, l) })
	if err != nil {
		return fmt.Errorf("limit %s: %w", dir, err)
	}
	return nil
}

// Lift takes the limits away, so that none are left when the directory's files have gone.
// It comes before they go: from then on the project may be another's. A directory without
// a project of its own has nothing to lift.
func (h *Home) Lift(dir string) error {
	err := h.Change(dir, Limits{})
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	return err
}

// with calls fn with the project of a directory.
func (h *Home) with(dir string, fn func(c control, project uint32) error) error {
	f, err := openDir(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	a, err := attributes(f)
	if err != nil {
		return err
	}
	if a.project == 0 || a.project == h.base || a.flags&projectInherit == 0 {
		return fmt.Errorf("%w: it has no project of its own", errdefs.ErrNotFound)
	}
	home, err := openDir(h.path)
	if err != nil {
		return err
	}
	defer home.Close()
	return fn(h.control(home), a.project)
}
