package apply

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/shalestore/shale/archive/internal/tarstream"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/eintr"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// The last stage of Tar: several writers make the regular files. A writer knows nothing
// of paths. It gets a directory's descriptor, one name that the planner has found free,
// and the content, and does all the rest on the descriptor of the file it made.

// wholeFile is the size up to which a file waits for all its content before it is given
// to a writer. A larger one is written while it comes in.
const wholeFile = 1 << 20

// queued is how many files may wait for a writer.
const queued = 128

// fileTask is a regular file to be made.
type fileTask struct {
	h      *tarstream.Header
	dir    *directory
	name   string
	at     attrs
	pieces []contentPiece
	more   chan contentPiece // for a large file: the pieces to come
	done   atomic.Bool
	// aliased says that the member's name leads through symlinks, which later members may
	// change.
	aliased bool
}

// contentPiece is part of a file's content, in memory that block owns.
type contentPiece struct {
	block *tarstream.Block
	data  []byte
}

// writers run the tasks.
type writers struct {
	a      *applier
	tasks  chan *fileTask
	work   sync.WaitGroup // tasks given and not done
	recent [queued + 64]*fileTask
	given  int
}

// give queues a task. Only the planner calls it.
func (w *writers) give(t *fileTask) {
	w.work.Add(1)
	w.recent[w.given%len(w.recent)] = t
	w.given++
	w.tasks <- t
}

// pending reports whether name in d is a file that is being written. The ring holds more
// than can be in flight.
func (w *writers) pending(d *directory, name string) bool {
	for _, t := range w.recent {
		if t != nil && t.dir == d && t.name == name && !t.done.Load() {
			return true
		}
	}
	return false
}

// finish waits for name in d if that is being written.
func (w *writers) finish(d *directory, name string) error {
	if w.pending(d, name) {
		return w.drain()
	}
	return nil
}

// drain waits until all tasks given are done.
func (w *writers) drain() error {
	w.work.Wait()
	return w.a.failed()
}

// run makes files until there are no more tasks.
func (w *writers) run() {
	for t := range w.tasks {
		if err := w.make(t); err != nil {
			w.a.fail(t.h.Index, entryError(t.h, err))
		}
		for _, p := range t.pieces {
			p.block.Release()
		}
		if t.more != nil {
			for p := range t.more { // after an error
				p.block.Release()
			}
		}
		t.pieces = nil
		t.dir.release()
		t.done.Store(true)
		w.work.Done()
	}
}

// make makes one file.
func (w *writers) make(t *fileTask) error {
	if err := w.a.ctx.Err(); err != nil {
		return err
	}
	fd, err := openat.Create(t.dir.fd, t.name, unix.O_WRONLY, t.at.mode&0o777)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	defer unix.Close(fd)
	c := content{fd: fd, sparse: t.h.Sparse, wrote: w.a.opts.Wrote}
	for len(t.pieces) > 0 {
		p := t.pieces[0]
		if err := c.write(p.data); err != nil {
			return err
		}
		p.block.Release()
		t.pieces = t.pieces[1:]
	}
	if t.more != nil {
		var written int64
		for p := range t.more {
			err := c.write(p.data)
			written += int64(len(p.data))
			p.block.Release()
			if err != nil {
				return err
			}
			if err := w.a.ctx.Err(); err != nil {
				return err
			}
		}
		if written != t.h.Size {
			return nil // the stream broke off; whoever read it says so
		}
	}
	if t.h.Sparse != nil {
		if err := unix.Ftruncate(fd, t.h.RealSize); err != nil {
			return fmt.Errorf("set size to %d: %w", t.h.RealSize, err)
		}
	}
	return w.a.setFile(fd, t.dir, &t.at)
}

// content writes what comes in to where it belongs.
type content struct {
	fd     int
	sparse []tarstream.Extent // nil for a file without holes
	wrote  func(int64)
}

func (c *content) write(data []byte) error {
	if c.wrote != nil {
		defer c.wrote(int64(len(data)))
	}
	if c.sparse == nil {
		return c.all(data, func(p []byte) (int, error) { return unix.Write(c.fd, p) })
	}
	for len(data) > 0 {
		for len(c.sparse) > 0 && c.sparse[0].Length == 0 {
			c.sparse = c.sparse[1:]
		}
		if len(c.sparse) == 0 {
			return fmt.Errorf("%w: more content than the sparse map has room for", errdefs.ErrInvalid)
		}
		e := c.sparse[0]
		n := min(e.Length, int64(len(data)))
		err := c.all(data[:n], func(p []byte) (int, error) { return unix.Pwrite(c.fd, p, e.Offset+n-int64(len(p))) })
		if err != nil {
			return err
		}
		data = data[n:]
		c.sparse[0] = tarstream.Extent{Offset: e.Offset + n, Length: e.Length - n} // the map is this task's alone
	}
	return nil
}

func (c *content) all(data []byte, write func([]byte) (int, error)) error {
	if _, err := eintr.WriteAll(data, write); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
