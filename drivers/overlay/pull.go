package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/internal/files"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
	"golang.org/x/sys/unix"
)

// pullContent is the directory of a partial pull that becomes a layer's diff.
const pullContent = "dir"

// pull is a directory staging/<n> whose lock we hold.
type pull struct {
	driver *Driver
	home   string
	dir    string
	lock   *lockfile.Lock // nil once given away or removed
}

// StagePull makes staging/<n> with a locked staging.lock and an empty dir in it. It is
// put together in tempdirs and renamed in, so that at no moment it looks like one that a
// dead process has left.
func (d *Driver) StagePull(ctx context.Context, opts drivers.StageOptions) (_ drivers.Pull, err error) {
	defer drivers.Describe(&err, "overlay: stage a partial pull")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	root := attributes{mode: 0o555}
	if root.uid, root.gid, err = opts.IDMap.RootPair(); err != nil {
		return nil, err
	}
	if d.opts.ForceMask != nil {
		root.mode = uint32(d.opts.ForceMask.Perm())
	}
	home := d.homes.For(opts.Writable)
	temp, err := tempdir.New(filepath.Join(home, drivers.TempDirs))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, temp.Close()) }()
	built := temp.Addition()
	if err := os.Mkdir(built, 0o700); err != nil {
		return nil, err
	}
	if err := makeDir(filepath.Join(built, pullContent), root); err != nil {
		return nil, err
	}
	lock, err := lockfile.TryAcquire(filepath.Join(built, files.StagingLock), lockfile.Exclusive)
	if err != nil {
		return nil, err
	}
	staging := filepath.Join(home, files.StagingDirs)
	dir := filepath.Join(staging, files.NewLink())
	err = os.Mkdir(staging, 0o700)
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = drivers.Rename(built, dir)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	return &pull{driver: d, home: home, dir: dir, lock: lock}, nil
}

// Scratch is staging/<n>.
func (p *pull) Scratch() string { return p.dir }

// Content is staging/<n>/dir.
func (p *pull) Content() string { return filepath.Join(p.dir, pullContent) }

// Install exchanges the content with the layer's diff.
func (p *pull) Install(ctx context.Context, id string, ownRoot bool) (_ drivers.Trash, err error) {
	defer drivers.Describe(&err, "overlay: put a partial pull into layer %s", id)
	if p.lock == nil {
		return nil, fmt.Errorf("%w: it is installed or discarded already", errdefs.ErrInvalid)
	}
	dir, home, err := p.driver.homes.Find(id)
	if err != nil {
		return nil, err
	}
	if home != p.home {
		return nil, fmt.Errorf("%w: the layer lies in %s and was staged for %s", errdefs.ErrInvalid, home, p.home)
	}
	diff := filepath.Join(dir, "diff")
	if !ownRoot && p.driver.opts.ForceMask == nil {
		parents, err := p.driver.homes.Parents(ctx, dir)
		if err != nil {
			return nil, err
		}
		if len(parents) > 0 {
			// Since the layer was made its diff has its parent's mode.
			root, err := rootAttributes(diff)
			if err != nil {
				return nil, err
			}
			if err := unix.Chmod(p.Content(), root.mode); err != nil {
				return nil, &os.PathError{Op: "chmod", Path: p.Content(), Err: err}
			}
		}
	}
	if err := drivers.Exchange(p.Content(), diff); err != nil {
		return nil, err
	}
	step.Reached(ctx, "overlay: partial pull installed")
	if err := drivers.SyncDirs(dir, p.dir); err != nil {
		return nil, errors.Join(err, drivers.Exchange(p.Content(), diff))
	}
	done := *p
	p.lock = nil
	return &done, nil
}

// Empty removes staging/<n>, with what was in the layer before. Its lock goes last, by
// which others know that somebody is at it.
func (p *pull) Empty(ctx context.Context) error {
	if p.lock == nil {
		return nil
	}
	err := fsat.RemoveAll(ctx, p.dir)
	err = errors.Join(err, p.lock.Release())
	p.lock = nil
	return err
}

// Discard is Empty for content that wasn't installed.
func (p *pull) Discard() error { return p.Empty(context.Background()) }
