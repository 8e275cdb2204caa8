package examine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/internal/files"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/internal/openat"
)

// StalePulls returns the directories of partial pulls whose process is gone: those whose
// lock is free. One without a lock file may be a moment old, so it is nobody's business.
// No other lock is needed.
func (c *Checker) StalePulls(ctx context.Context) (stale []string, err error) {
	err = c.pulls(ctx, func(dir string) error {
		held, err := lockfile.Held(filepath.Join(dir, files.StagingLock))
		if err == nil && !held {
			stale = append(stale, dir)
		}
		return err
	})
	return stale, err
}

// SweepPulls removes what StalePulls lists.
func (c *Checker) SweepPulls(ctx context.Context) error {
	return c.pulls(ctx, func(dir string) error {
		lock, err := lockfile.TryAcquire(filepath.Join(dir, files.StagingLock), lockfile.Exclusive)
		if errors.Is(err, errdefs.ErrBusy) {
			return nil
		}
		if err != nil {
			return err
		}
		defer lock.Release()
		return fsat.RemoveAll(ctx, dir)
	})
}

// pulls calls fn for each directory in staging that has a lock file.
func (c *Checker) pulls(ctx context.Context, fn func(dir string) error) (err error) {
	defer drivers.Describe(&err, "overlay")
	var errs []error
	for _, home := range c.homes.Own {
		staging := filepath.Join(home, files.StagingDirs)
		entries, err := openat.List(home, files.StagingDirs)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, entry := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			dir := filepath.Join(staging, entry.Name)
			if !entry.IsDir() {
				continue
			}
			if _, err := os.Lstat(filepath.Join(dir, files.StagingLock)); err != nil {
				continue
			}
			if err := fn(dir); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Probes returns the directories in which other programs try out the kernel and that look
// like layers, those in use among them. They are gone in a moment, unless their process
// is, which may have left a mount in one.
func (c *Checker) Probes(ctx context.Context) (dirs []string, err error) {
	defer drivers.Describe(&err, "overlay")
	for _, home := range c.homes.Own {
		entries, err := openat.List(home, ".")
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if entry.IsDir() && files.IsProbe(entry.Name) {
				dirs = append(dirs, filepath.Join(home, entry.Name))
			}
		}
	}
	return dirs, ctx.Err()
}

// Leftovers are paths of what harms nobody and costs too much to look for at every start,
// each a file of its own, for the caller to remove: the short names that lead to no
// layer, or to one that has another name by now, and that are no layer's own. A crash
// leaves them, and so does containers/storage in an image store. The caller holds the
// layer lock, under which every name is made.
func (c *Checker) Leftovers(ctx context.Context) (paths []string, err error) {
	for _, home := range c.homes.Own {
		entries, err := openat.List(home, files.LinkDir)
		if err != nil {
			return nil, err
		}
		var suspects []string
		for _, entry := range entries {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if files.ValidLink(entry.Name) && !inUse(home, entry.Name) {
				suspects = append(suspects, entry.Name)
			}
		}
		if len(suspects) == 0 {
			continue
		}
		owned, err := c.ownNames(ctx, home)
		if err != nil {
			return nil, err
		}
		for _, link := range suspects {
			if !owned[link] { // else it is damaged, and for Rewrite
				paths = append(paths, filepath.Join(home, files.LinkDir, link))
			}
		}
	}
	return paths, nil
}

// inUse is true as well where it can't be told: a layer may have lost the file that says
// its name.
func inUse(home, link string) bool {
	target, err := files.ReadSymlink(home, link)
	if err != nil {
		return true
	}
	id, ok := files.LinkedID(target)
	if !ok {
		return true
	}
	found, err := files.ReadLink(filepath.Join(home, id))
	if errors.Is(err, fs.ErrNotExist) {
		_, err := os.Lstat(filepath.Join(home, id))
		return !errors.Is(err, fs.ErrNotExist)
	}
	return err != nil || found == link
}

// ownNames are the short names that layers say are theirs.
func (c *Checker) ownNames(ctx context.Context, home string) (map[string]bool, error) {
	ids, err := c.homes.ListIn(home)
	if err != nil {
		return nil, err
	}
	own := make(map[string]bool, len(ids))
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if link, err := files.ReadLink(filepath.Join(home, id)); err == nil {
			own[link] = true
		}
	}
	return own, nil
}
