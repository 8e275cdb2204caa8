package overlay

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/internal/openat"
)

// Partial pulls of containers/storage fill directories staging/<n>, each with a lock that
// its process holds as long as it lives (format, section 10.1). Those whose lock is free
// are left over. One without a lock file may be a moment old, so it is nobody's business.
const stagingLock = "staging.lock"

// StalePulls returns the directories of partial pulls whose process is gone.
func (d *Driver) StalePulls(ctx context.Context) (stale []string, err error) {
	err = d.pulls(ctx, func(dir string) error {
		held, err := lockfile.Held(filepath.Join(dir, stagingLock))
		if err == nil && !held {
			stale = append(stale, dir)
		}
		return err
	})
	return stale, err
}

// SweepPulls removes them.
func (d *Driver) SweepPulls(ctx context.Context) error {
	return d.pulls(ctx, func(dir string) error {
		lock, err := lockfile.TryAcquire(filepath.Join(dir, stagingLock), lockfile.Exclusive)
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
func (d *Driver) pulls(ctx context.Context, fn func(dir string) error) (err error) {
	defer drivers.Describe(&err, Name)
	var errs []error
	for _, home := range d.homes.Own {
		staging := filepath.Join(home, stagingDirs)
		entries, err := openat.List(home, stagingDirs)
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
			if _, err := os.Lstat(filepath.Join(dir, stagingLock)); err != nil {
				continue
			}
			if err := fn(dir); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// isProbe recognizes the directories in which containers/storage makes its test mounts.
func isProbe(name string) bool {
	for _, prefix := range []string{"opaque-bug-check", "metacopy-check", "volatile-check", "compat"} {
		if number, ok := strings.CutPrefix(name, prefix); ok {
			return number != "" && strings.Trim(number, "0123456789") == ""
		}
	}
	return false
}

// Probes returns the directories of test mounts. They are gone in a moment, unless their
// process is.
func (d *Driver) Probes(ctx context.Context) (dirs []string, err error) {
	defer drivers.Describe(&err, Name)
	for _, home := range d.homes.Own {
		entries, err := openat.List(home, ".")
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if entry.IsDir() && isProbe(entry.Name) {
				dirs = append(dirs, filepath.Join(home, entry.Name))
			}
		}
	}
	return dirs, ctx.Err()
}
