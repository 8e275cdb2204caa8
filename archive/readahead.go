package archive

import (
	"context"
	"io"
	"runtime"
	"sync"
)

// Reading tens of thousands of small files one after another leaves a second processor
// idle and waits on every inode. Here a producer names the pieces of a stream in order,
// several workers turn them into bytes at the same time, and the bytes go out in the
// order of the pieces. Memory is bounded by the workers' chunks, however large a file or
// a stream is.
const (
	chunkSize       = 256 << 10 // what is written at once; fits the second-level cache of common processors
	chunksPerWorker = 6
	// pieces of about as many bytes travel together, so that small files don't pay for a
	// hand-over each
	batchCost     = 192 << 10
	batchPieces   = 128
	queuedBatches = 8
)

// readAhead is one stream in the making. J is a piece of it.
type readAhead[J any] struct {
	// produce calls emit for every piece in order; cost is about how many bytes it will
	// give. An error ends the stream after the pieces emitted so far.
	produce func(ctx context.Context, emit func(piece J, cost int64) error) error
	// worker makes the filler of one goroutine.
	worker func() filler[J]
	// progress is called with the bytes written so far; may be nil.
	progress func(int64)

	spare chan []J // lists of pieces to fill anew
}

// filler turns pieces into bytes, in one goroutine.
type filler[J any] interface {
	// fill writes a piece's bytes to out.
	fill(ctx context.Context, piece J, out *chunkWriter) error
	// drop gives back what a piece holds. It is called once for each, filled or not.
	drop(piece J)
	// close gives back what the filler itself holds.
	close()
}

type batch[J any] struct {
	pieces []J
	chunks chan chunk // closed when the batch is done; then err is set
	err    error
}

type chunk struct {
	data []byte
	home chan []byte // where the buffer goes back to
}

// run writes the stream to w. It returns the first error in stream order, when all its
// goroutines have ended. A Write that blocks is not interrupted by ctx; everything else
// is.
func (r *readAhead[J]) run(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	r.spare = make(chan []J, queuedBatches)
	order := make(chan *batch[J], queuedBatches)
	work := make(chan *batch[J], queuedBatches)
	wg.Go(func() {
		defer close(work)
		defer close(order)
		r.feed(ctx, order, work)
	})
	for range min(max(runtime.GOMAXPROCS(0), 2), 4) {
		wg.Go(func() { r.fillBatches(ctx, work) })
	}

	var written int64
	for b := range order {
		for c := range b.chunks {
			if _, err := w.Write(c.data); err != nil {
				return err
			}
			written += int64(len(c.data))
			c.home <- c.data[:0] // has room for all its owner's buffers
			if r.progress != nil {
				r.progress(written)
			}
		}
		if b.err != nil {
			return b.err
		}
	}
	return ctx.Err()
}

// feed groups the producer's pieces into batches.
func (r *readAhead[J]) feed(ctx context.Context, order, work chan<- *batch[J]) {
	var b *batch[J]
	var cost int64
	send := func() error {
		full := b
		b, cost = nil, 0
		select {
		case order <- full:
		case <-ctx.Done():
			work <- full // where its pieces are dropped
			return ctx.Err()
		}
		// Each batch has a place here as it has one in order. Workers take batches in
		// order and one of them serves the oldest, so this never waits for the writer to
		// get past it.
		work <- full
		return nil
	}
	err := r.produce(ctx, func(piece J, c int64) error {
		if b == nil {
			b = &batch[J]{chunks: make(chan chunk, 2)}
			select {
			case b.pieces = <-r.spare:
			default:
				b.pieces = make([]J, 0, batchPieces)
			}
		}
		b.pieces = append(b.pieces, piece)
		cost += c
		if cost < batchCost && len(b.pieces) < batchPieces {
			return nil
		}
		return send()
	})
	if b != nil && send() != nil {
		return
	}
	if err != nil {
		last := &batch[J]{chunks: make(chan chunk), err: err}
		close(last.chunks)
		select {
		case order <- last:
		case <-ctx.Done():
		}
	}
}

// fillBatches is one worker. After a failure it keeps taking batches, only to drop them.
func (r *readAhead[J]) fillBatches(ctx context.Context, work <-chan *batch[J]) {
	out := &chunkWriter{free: make(chan []byte, chunksPerWorker)}
	for range chunksPerWorker {
		out.free <- nil
	}
	f := r.worker()
	defer f.close()
	for b := range work {
		out.to = b.chunks
		for _, piece := range b.pieces {
			if b.err == nil {
				b.err = ctx.Err()
			}
			if b.err == nil {
				b.err = f.fill(ctx, piece, out)
			}
			f.drop(piece)
		}
		clear(b.pieces)
		select {
		case r.spare <- b.pieces[:0]:
		default:
		}
		if err := out.flush(ctx); b.err == nil {
			b.err = err
		}
		close(b.chunks)
	}
}

// chunkWriter collects a worker's output in chunks. A worker's buffers are its own, so
// that the one who fills the oldest batch always finds one free: the others' output may
// have to wait for it, never the other way round.
type chunkWriter struct {
	cur  []byte
	free chan []byte
	to   chan<- chunk
}

// room returns space for at least one byte, to be filled from the start and then claimed
// with grow.
func (c *chunkWriter) room(ctx context.Context) ([]byte, error) {
	if len(c.cur) == cap(c.cur) {
		if err := c.flush(ctx); err != nil {
			return nil, err
		}
		select {
		case c.cur = <-c.free:
			if c.cur == nil {
				c.cur = make([]byte, 0, chunkSize)
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return c.cur[len(c.cur):cap(c.cur)], nil
}

func (c *chunkWriter) grow(n int) { c.cur = c.cur[:len(c.cur)+n] }

// flush hands over what there is. The next byte goes into a fresh buffer.
func (c *chunkWriter) flush(ctx context.Context) error {
	full := c.cur
	c.cur = nil
	if cap(full) == 0 {
		return nil
	}
	if len(full) == 0 {
		c.free <- full
		return nil
	}
	select {
	case c.to <- chunk{full, c.free}:
		return nil
	case <-ctx.Done():
		c.free <- full
		return ctx.Err()
	}
}

// write appends p.
func (c *chunkWriter) write(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		space, err := c.room(ctx)
		if err != nil {
			return err
		}
		n := copy(space, p)
		c.grow(n)
		p = p[n:]
	}
	return nil
}

// zeros appends n zero bytes.
func (c *chunkWriter) zeros(ctx context.Context, n int64) error {
	for n > 0 {
		space, err := c.room(ctx)
		if err != nil {
			return err
		}
		space = space[:min(int64(len(space)), n)]
		clear(space)
		c.grow(len(space))
		n -= int64(len(space))
	}
	return nil
}
