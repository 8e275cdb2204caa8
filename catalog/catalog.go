package catalog

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/lockfile"
)

// Catalog is a lock and the files of records it protects. It is safe for concurrent use;
// two catalogs never share anything but the files.
type Catalog[R any] struct {
	schema Schema[R]
	lock   string
	files  []File
	decode *decoder
	// readOnly catalogs belong to another store: nothing of them is made or written here,
	// their lock file included.
	readOnly bool

	gauge fsat.Gauge

	mu    sync.Mutex // guards state while it is checked and loaded
	state *state     // what the files held when the lock was last given back; nil when nothing is known
}

// New describes a catalog. It does no I/O: the lock file is created at the first
// transaction and a file of records by the first save that has something to put into it.
func New[R any](schema Schema[R], lock string, files ...File) *Catalog[R] {
	if schema.Hidden == nil {
		schema.Hidden = func(*R) bool { return false }
	}
	if schema.Keys == nil {
		schema.Keys = func(*R) []Key { return nil }
	}
	if schema.ValidID == nil {
		schema.ValidID = func(string) error { return nil }
	}
	return &Catalog[R]{schema: schema, lock: lock, files: files, decode: newDecoder(reflect.TypeFor[R]())}
}

// NewReadOnly describes a catalog of a store that only others write, if anyone. Its lock
// is taken where there is a lock file; where there is none, as on a read-only file
// system, there can be nobody to lock out. Update returns errdefs.ErrReadOnly.
func NewReadOnly[R any](schema Schema[R], lock string, files ...File) *Catalog[R] {
	c := New(schema, lock, files...)
	c.readOnly = true
	return c
}

// Gauge tells how much waits to be written where the records are.
func (c *Catalog[R]) Gauge() *fsat.Gauge { return &c.gauge }

// View runs fn with the lock shared. The transaction is over when fn returns: after that
// its methods only return errors. While it waits for the lock View ends with ctx's error
// when ctx does.
//
// fn must not start an Update of the same catalog: that would wait for the lock that View
// holds.
func (c *Catalog[R]) View(ctx context.Context, fn func(tx *ReadTx[R]) error) error {
	held, err := c.acquire(ctx, lockfile.Shared)
	if err != nil {
		return err
	}
	defer held.release()
	st, err := c.fresh(held)
	if err != nil {
		return err
	}
	// The file lock keeps writers out already, so nobody ever waits for this one; it
	// tells Go's memory model the same.
	st.inUse.RLock()
	defer st.inUse.RUnlock()
	tx := &ReadTx[R]{c: c, st: st}
	defer tx.end()
	return fn(tx)
}

// Update runs fn with the lock exclusive, and saves what it changed when it returns nil.
// When fn returns an error, all changes since the last successful Save are dropped and
// Update returns that error. After an error of the save itself nobody can say whether the
// change is there; the next transaction finds out by reading.
func (c *Catalog[R]) Update(ctx context.Context, fn func(tx *WriteTx[R]) error) (err error) {
	if c.readOnly {
		return fmt.Errorf("%s records locked by %s: %w", c.schema.Kind, c.lock, errdefs.ErrReadOnly)
	}
	held, err := c.acquire(ctx, lockfile.Exclusive)
	if err != nil {
		return err
	}
	defer func() {
		if rerr := held.release(); err == nil {
			err = rerr
		}
	}()
	st, err := c.fresh(held)
	if err != nil {
		return err
	}
	st.inUse.Lock()
	defer st.inUse.Unlock()
	tx := &WriteTx[R]{ReadTx: ReadTx[R]{c: c, st: st}, ctx: ctx, locks: held}
	defer func() { // also when fn panics
		if tx.unsaved() {
			c.forget(st)
		}
		tx.end()
	}()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Save()
}

// fresh returns the state of the files as they are now.
func (c *Catalog[R]) fresh(held locks) (*state, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	token, err := held.token()
	if err != nil {
		return nil, err
	}
	if st := c.state; st != nil {
		st.inUse.RLock()
		current := st.token == token && (c.tokenTells(token) || st.unchanged(c.files))
		st.inUse.RUnlock()
		if current {
			if st.wroteToken {
				held[0].Trust()
			}
			return st, nil
		}
	}
	c.state = nil
	st, err := load(c.files)
	if err != nil {
		return nil, err
	}
	st.token = token
	c.state = st
	return st, nil
}

// tokenTells reports whether an unchanged token means unchanged files. One that nobody
// ever wrote means nothing, and another store may have been put in a read-only one's
// place.
func (c *Catalog[R]) tokenTells(token lockfile.Token) bool {
	return c.schema.TokenTells && !c.readOnly && token != lockfile.Token{}
}

// forget drops a state that no longer says what the files do.
func (c *Catalog[R]) forget(st *state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == st {
		c.state = nil
	}
}
