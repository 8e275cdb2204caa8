package store

import (
	"context"

	"github.com/shalestore/shale/internal/lockfile"
)

// Waiting tells of a lock that a method waits for: its path, since when, and where that
// can be found out the process that holds it.
type Waiting = lockfile.Waiting

// OnWait has fn called when a method that gets this context has waited for a lock for a
// second, from another goroutine, and once for each such lock. The method goes on waiting
// until it has the lock or the context ends.
func OnWait(ctx context.Context, fn func(Waiting)) context.Context { return lockfile.OnWait(ctx, fn) }
