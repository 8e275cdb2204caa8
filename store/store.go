package store

import (
	"context"
	"fmt"
	"sync"

	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/store/internal/roots"
)

// Store is one graph root with its run root. It may be used from several goroutines. Any
// number of Stores, in any number of processes, may work on the same roots, and programs
// that link containers/storage as well.
type Store struct {
	cfg config.Config

	mu     sync.Mutex // guards what follows
	roots  *roots.Roots
	closed bool
}

// Open returns the store that cfg describes. It touches nothing: the driver is chosen,
// directories are made and records are read when a method first needs them.
//
// Settings that Shale doesn't carry out are errdefs.ErrUnsupported; roots that are
// missing or not absolute are errdefs.ErrInvalid.
func Open(ctx context.Context, cfg config.Config) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Store{cfg: cfg}, nil
}

// Wait returns when the files of all that was deleted so far are removed. A deletion is
// answered as soon as it is durable and out of sight, which takes milliseconds, and
// removes its files after that. Wait returns the errors there were, once; what they are
// about, and what isn't removed when ctx ends, is left to the next process that opens the
// store.
func (s *Store) Wait(ctx context.Context) error {
	s.mu.Lock()
	roots := s.roots
	s.mu.Unlock()
	if roots == nil {
		return nil
	}
	return roots.Layers.Wait(ctx)
}

// Close waits like Wait, and gives back what the store holds in this process. Mounts
// stay, and so does everything on disk.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	roots := s.roots
	s.roots, s.closed = nil, true
	if roots == nil {
		return nil
	}
	return roots.Layers.Close()
}

// Config is what the store was opened with.
func (s *Store) Config() config.Config { return s.cfg }

// Roots opens what the store consists of, for the packages below this one. An error isn't
// remembered.
func (s *Store) Roots(ctx context.Context) (*roots.Roots, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("store %s: closed: %w", s.cfg.GraphRoot, errdefs.ErrInvalid)
	}
	if s.roots != nil {
		return s.roots, nil
	}
	opened, err := roots.Open(ctx, s.cfg)
	if err != nil {
		return nil, err
	}
	s.roots = opened
	return opened, nil
}

// OpenDriver opens the driver that a store with this Config would have, for programs that
// keep records of their own, and says how a tar is to be unpacked for it. Errors are
// those of Open.
func OpenDriver(ctx context.Context, cfg config.Config) (drivers.Driver, apply.Options, error) {
	return roots.OpenDriver(ctx, cfg)
}
