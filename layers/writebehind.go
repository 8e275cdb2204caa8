package layers

import (
	"sync"
	"sync/atomic"

	"github.com/shalestore/shale/internal/fsat"
)

// writeBehind has the file system write what drafts are filled with while they are filled
// with more, so that the sync in the end has little left to wait for: the kernel by
// itself waits for five seconds, or a tenth of the memory. The drafts of an image share
// one. Its methods may be called by several goroutines at a time, and do nothing on nil.
type writeBehind struct {
	path    string
	waiting atomic.Int64 // bytes written since the last sync began
	syncing atomic.Bool
	syncs   sync.WaitGroup
	mu      sync.Mutex
	err     error
}

// behindAfter is how many bytes are worth a sync. A sync also commits the file system's
// journal, which costs those who make files then some time: with 32 MiB half of the gain
// is lost, and who mounts meanwhile waits for more of them. With more than 256 MiB too
// much is left for the end.
const behindAfter = 256 << 20

// newWriteBehind is for d and the drafts on top of it; nil where nothing will be synced.
func newWriteBehind(d *Draft) *writeBehind {
	if d.opts.Volatile || d.store.cfg.Unsynced {
		return nil
	}
	return &writeBehind{path: d.staged.Content()}
}

// wrote notes that n bytes more wait, and begins a sync when they are enough.
func (b *writeBehind) wrote(n int64) {
	if b == nil || b.waiting.Add(n) < behindAfter || !b.syncing.CompareAndSwap(false, true) {
		return
	}
	b.waiting.Store(0)
	b.syncs.Go(func() {
		defer b.syncing.Store(false)
		if err := fsat.SyncFS(b.path); err != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.err = err
		}
	})
}

// wait returns when no sync is under way any more. Its error is that of any of them: the
// kernel tells of what it couldn't write once only. Nobody may write meanwhile.
func (b *writeBehind) wait() error {
	if b == nil {
		return nil
	}
	b.syncs.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
