package catalog

import (
	"context"
	"errors"
	"io/fs"

	"github.com/shalestore/shale/internal/lockfile"
)

// locks are what a transaction holds: the catalog's own lock, then those of the files
// that have one of their own.
type locks []*lockfile.Lock

// acquire takes all locks of the catalog, in the order of New.
func (c *Catalog[R]) acquire(ctx context.Context, mode lockfile.Mode) (locks, error) {
	if c.readOnly {
		root, rel := beneathRoot(c.lock)
		lock, err := lockfile.AcquireExisting(ctx, root, rel)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return locks{lock}, nil
	}
	var held locks
	for _, path := range c.lockPaths() {
		root, rel := beneathRoot(path)
		lock, err := lockfile.AcquireIn(ctx, root, rel, mode)
		if err != nil {
			return nil, errors.Join(err, held.release())
		}
		held = append(held, lock)
	}
	return held, nil
}

func (c *Catalog[R]) lockPaths() []string {
	paths := []string{c.lock}
	for _, f := range c.files {
		if f.Lock != "" {
			paths = append(paths, f.Lock)
		}
	}
	return paths
}

// token is that of the first lock: whoever writes any of the files touches it.
func (l locks) token() (lockfile.Token, error) {
	if len(l) == 0 {
		return lockfile.Token{}, nil // where nobody locks, only the files themselves can tell of a change
	}
	return l[0].Token()
}

// touch writes a new token into every lock and returns that of the first.
func (l locks) touch() (lockfile.Token, error) {
	var first lockfile.Token
	for i, lock := range l {
		token, err := lock.Touch()
		if err != nil {
			return first, err
		}
		if i == 0 {
			first = token
		}
	}
	return first, nil
}

// release gives the locks back, the last one first.
func (l locks) release() error {
	var errs []error
	for i := len(l) - 1; i >= 0; i-- {
		errs = append(errs, l[i].Release())
	}
	return errors.Join(errs...)
}
