package overlay

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/tempdir"
	"github.com/shalestore/shale/quota"
	"golang.org/x/sys/unix"
)

// Where the file system of the home has project quotas, each container's layer is a
// project: <id>/ and everything in it, work/ included, since overlayfs makes files there
// and renames them into diff/. Layers without limits are projects too, as
// containers/storage has it, so that what they take is known at once.

// quotas is the home of the writable layers as package quota sees it. It is looked at
// when it is first needed.
type quotas struct {
	mu    sync.Mutex
	known bool
	home  *quota.Home // nil where there are none
	why   error
}

// quotaHome returns errdefs.ErrUnsupported where layers can't have limits.
func (d *Driver) quotaHome() (*quota.Home, error) {
	q := &d.facts.quotas
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.known {
		return q.home, q.why
	}
	home, err := quota.Open(d.homes.Own[0])
	if err == nil {
		// Into a directory that hands a project down no layer of another one could be
		// deleted.
		err = quota.StopInheritance(filepath.Join(d.homes.Own[0], drivers.TempDirs))
	}
	if err != nil && !errors.Is(err, errdefs.ErrUnsupported) {
		return nil, err
	}
	q.known, q.home, q.why = true, home, err
	return home, err
}

// Limitable reports what the file system or its mount lacks.
func (d *Driver) Limitable(ctx context.Context) (err error) {
	defer drivers.Describe(&err, "overlay: limits")
	if err := errors.Join(ctx.Err(), d.programLimitable()); err != nil {
		return err
	}
	_, err = d.quotaHome()
	return err
}

// programLimitable refuses limits that wouldn't hold: a mount program writes as root, and
// ext4 lets whoever has CAP_SYS_RESOURCE go beyond them.
func (d *Driver) programLimitable() error {
	if d.opts.MountProgram != "" && fileSystemOf(d.homes.Own[0]) == unix.EXT4_SUPER_MAGIC {
		return fmt.Errorf("%w on ext4 together with a mount program", errdefs.ErrUnsupported)
	}
	return nil
}

// Quota reads a layer's limits and what it takes of them.
func (d *Driver) Quota(ctx context.Context, id string) (_ quota.Limits, _ quota.Usage, err error) {
	defer drivers.Describe(&err, "overlay: layer %s", id)
	if err := ctx.Err(); err != nil {
		return quota.Limits{}, quota.Usage{}, err
	}
	home, err := d.quotaHome()
	if err != nil {
		return quota.Limits{}, quota.Usage{}, err
	}
	dir, in, err := d.homes.Find(id)
	if err != nil {
		return quota.Limits{}, quota.Usage{}, err
	}
	if in != d.homes.Own[0] {
		return quota.Limits{}, quota.Usage{}, fmt.Errorf("project of %s: %w: only layers in %s have one", dir,
			errdefs.ErrNotFound, d.homes.Own[0])
	}
	return home.Read(dir)
}

// bounds says with which limits to stage a layer, and in which home they are counted; nil
// for a layer that is neither limited nor counted.
func (d *Driver) bounds(opts drivers.StageOptions) (*quota.Home, quota.Limits, error) {
	var limits quota.Limits
	if opts.Limits == nil || !opts.Writable {
		if opts.Limits.Any() {
			return nil, limits, fmt.Errorf("limits: %w: the layer isn't a container's", errdefs.ErrInvalid)
		}
		return nil, limits, nil
	}
	limits = d.opts.Limits
	if opts.Limits.Bytes != nil {
		limits.Bytes = *opts.Limits.Bytes
	}
	if opts.Limits.Inodes != nil {
		limits.Inodes = *opts.Limits.Inodes
	}
	if !limits.IsZero() {
		if err := d.programLimitable(); err != nil {
			return nil, limits, fmt.Errorf("limits: %w", err)
		}
	}
	home, err := d.quotaHome()
	if errors.Is(err, errdefs.ErrUnsupported) && limits.IsZero() {
		return nil, limits, nil
	}
	return home, limits, err
}

// project puts the staged layer's empty directory into the project that it belongs to:
// that of the layer whose content it is to replace, or one of its own.
func (s *staged) project(ctx context.Context, replaces string) error {
	if replaces != "" {
		dir, _, err := s.driver.homes.FindOwn(replaces)
		if err == nil {
			s.joined, err = quota.Join(s.Path(), dir)
		}
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) && !errors.Is(err, errdefs.ErrReadOnly) {
			return fmt.Errorf("project of layer %s: %w", replaces, err)
		}
		if s.joined && s.quota == nil {
			// Unknown where the file system was mounted without quotas: the project
			// stays, the limits can't be looked at.
			if home, err := s.driver.quotaHome(); err == nil {
				s.limits, _, err = home.Read(dir)
				if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
					return err
				}
				s.quota = home
			}
		}
	}
	if s.joined || s.quota == nil {
		return nil
	}
	if err := s.quota.Assign(ctx, s.Path(), s.limits); err != nil {
		return err
	}
	s.ownProject = true
	return nil
}

// beyondLimits makes errdefs.ErrInvalid of limits that a new layer is beyond from the
// start, by the files that every layer has: XFS, which asks for more room than it then
// takes, says that there is no space, and ext4 lets root go on. err is what building the
// layer ended in.
func (s *staged) beyondLimits(err error) error {
	if !s.ownProject || s.limits.IsZero() {
		return err
	}
	full := isFull(err)
	if full {
		var fs unix.Statfs_t
		if unix.Statfs(s.home, &fs) != nil || fs.Bavail < 1024 || fs.Ffree < 64 {
			return err // the file system itself is full
		}
	} else if err == nil {
		_, usage, qerr := s.quota.Read(s.Path())
		if qerr != nil {
			return qerr
		}
		full = s.limits.Bytes > 0 && uint64(usage.Bytes) > s.limits.Bytes || s.limits.Inodes > 0 &&
			uint64(usage.Inodes) > s.limits.Inodes
	}
	if !full {
		return err
	}
	few := fmt.Errorf("limits of %v: %w: too little for the files that every layer has", s.limits, errdefs.ErrInvalid)
	if err != nil {
		return fmt.Errorf("%w: %w", few, err)
	}
	return few
}

// renewLimits gives a layer that takes another's place, project and all, the limits that
// went with the deletion of that one.
func (s *staged) renewLimits() error {
	if !s.joined || s.quota == nil {
		return nil
	}
	return s.quota.Change(s.Path(), s.limits)
}

// Discard also gives back the limits of a layer that never came to be.
func (s *staged) Discard() error {
	if s.ownProject {
		s.liftLimits()
	}
	return s.Aside.Discard()
}

func (s *staged) liftLimits() {
	s.ownProject = false
	_ = s.quota.Lift(s.Path()) // whoever gets the project next, gets other limits with it
}

// makeDirWithin is makeDir in the directory of a layer of the home, which may be full:
// unmounting and mounting must be possible all the same. Then the directory is made
// elsewhere, and moves into the layer's project first, which root may do beyond any
// limit. Where the whole file system is full, the layer's mount point makes room, which
// is empty and about to be replaced: what goes leaves a block and an inode.
func makeDirWithin(ctx context.Context, home, path string, a attributes) (err error) {
	err = makeDir(path, a)
	if !isFull(err) {
		return err
	}
	temp, terr := tempdir.New(filepath.Join(home, drivers.TempDirs))
	if isFull(terr) && unix.Rmdir(filepath.Join(filepath.Dir(path), "merged")) == nil {
		return makeDir(path, a)
	}
	if terr != nil {
		return errors.Join(err, terr)
	}
	defer func() { err = errors.Join(err, temp.Remove(context.WithoutCancel(ctx))) }()
	made := temp.Addition()
	if err := makeDir(made, a); err != nil {
		return err
	}
	if _, err := quota.Join(made, filepath.Dir(path)); err != nil {
		return err
	}
	return drivers.Rename(made, path)
}

// isFull reports whether there is no room: XFS has another errno for the limits of
// projects than ext4.
func isFull(err error) bool { return errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.ENOSPC) }

// liftLimits is best effort: package quota gives no project away with the limits that it
// had. containers/storage does.
func (d *Driver) liftLimits(home, id string) {
	if home != d.homes.Own[0] {
		return
	}
	if q, err := d.quotaHome(); err == nil {
		_ = q.Lift(filepath.Join(home, id))
	}
}
