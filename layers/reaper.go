package layers

import (
	"context"
	"errors"
	"sync"

	"github.com/shalestore/shale/drivers"
)

// reaper removes the files of what was deleted, after the lock is released and the caller
// was answered. They are out of the store's sight already, in temporary directories whose
// locks this process holds: if it dies, the next one to open the store removes them.
type reaper struct {
	running sync.WaitGroup
	workers chan struct{} // one token for each that is at work
	pending chan struct{} // one for each that is at work or waits for its turn

	mu   sync.Mutex // guards what follows
	ctx  context.Context
	stop context.CancelFunc
	errs []error
}

const (
	// maxReapers is one since a removal has two goroutines of its own, and more of them
	// get in each other's way.
	maxReapers = 1
	// maxPending bounds the descriptors that wait with their temporary directories. Who
	// deletes faster than the disk can, waits for it.
	maxPending = 64
)

func newReaper() *reaper {
	r := &reaper{workers: make(chan struct{}, maxReapers), pending: make(chan struct{}, maxPending)}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// take removes all of trash, in its own time.
func (r *reaper) take(trash []drivers.Trash) {
	if len(trash) == 0 {
		return
	}
	r.mu.Lock()
	ctx := r.ctx
	r.mu.Unlock()
	r.pending <- struct{}{}
	r.running.Go(func() {
		r.workers <- struct{}{}
		for _, t := range trash {
			if err := t.Empty(ctx); err != nil {
				r.mu.Lock()
				r.errs = append(r.errs, err)
				r.mu.Unlock()
			}
		}
		<-r.workers
		<-r.pending
	})
}

// wait returns when all that was taken before is gone, with what couldn't be removed
// since the last wait. When ctx ends it stops what is under way.
func (r *reaper) wait(ctx context.Context) error {
	done := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stop()
		r.ctx, r.stop = context.WithCancel(context.Background())
	})
	r.running.Wait()
	done()
	r.mu.Lock()
	defer r.mu.Unlock()
	err := errors.Join(r.errs...)
	r.errs = nil
	return err
}
