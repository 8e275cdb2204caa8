package readahead

import (
	"context"
	"io"
	"runtime"
	"sync"
)

const (
	chunkSize       = 256 << 10 // what is written at once; fits the second-level cache of common processors
	chunksPerWorker = 6
	batchPieces     = 128
	queuedBatches   = 8
)

// BatchCost is how many bytes the pieces that travel together give, so that small files
// don't pay for a hand-over each.
const BatchCost = 192 << 10

// Stream is one stream in the making. J is a piece of it.
type Stream[J any] struct {
	// Produce calls emit for every piece in order; cost is about how many bytes it will
	// give. An error ends the stream after the pieces emitted so far.
	Produce func(ctx context.Context, emit func(piece J, cost int64) error) error
	// Worker makes the filler of one goroutine.
	Worker func() Filler[J]
	// Progress is called with the bytes written so far; may be nil.
	Progress func(int64)

	spare chan []J // lists of pieces to fill anew
}

// Filler turns pieces into bytes, in one goroutine.
type Filler[J any] interface {
	// Fill writes a piece's bytes to out.
	Fill(ctx context.Context, piece J, out *ChunkWriter) error
	// Drop gives back what a piece holds. It is called once for each, filled or not.
	Drop(piece J)
	// Close gives back what the filler itself holds.
	Close()
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

// Run writes the stream to w. It returns the first error in stream order, when all its
// goroutines have ended. A Write that blocks is not interrupted by ctx; everything else
// is.
func (r *Stream[J]) Run(ctx context.Context, w io.Writer) error {
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
			if r.Progress != nil {
				r.Progress(written)
			}
		}
		if b.err != nil {
			return b.err
		}
	}
	return ctx.Err()
}

// feed groups the producer's pieces into batches.
func (r *Stream[J]) feed(ctx context.Context, order, work chan<- *batch[J]) {
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
	err := r.Produce(ctx, func(piece J, c int64) error {
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
		if cost < BatchCost && len(b.pieces) < batchPieces {
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
func (r *Stream[J]) fillBatches(ctx context.Context, work <-chan *batch[J]) {
	out := &ChunkWriter{free: make(chan []byte, chunksPerWorker)}
	for range chunksPerWorker {
		out.free <- nil
	}
	f := r.Worker()
	defer f.Close()
	for b := range work {
		out.to = b.chunks
		for _, piece := range b.pieces {
			if b.err == nil {
				b.err = ctx.Err()
			}
			if b.err == nil {
				b.err = f.Fill(ctx, piece, out)
			}
			f.Drop(piece)
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

// ChunkWriter collects a worker's output in chunks. A worker's buffers are its own, so
// that the one who fills the oldest batch always finds one free: the others' output may
// have to wait for it, never the other way round.
type ChunkWriter struct {
	cur  []byte
	free chan []byte
	to   chan<- chunk
}

// Room returns space for at least one byte, to be filled from the start and then claimed
// with grow.
func (c *ChunkWriter) Room(ctx context.Context) ([]byte, error) {
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

func (c *ChunkWriter) Grow(n int) { c.cur = c.cur[:len(c.cur)+n] }

// flush hands over what there is. The next byte goes into a fresh buffer.
func (c *ChunkWriter) flush(ctx context.Context) error {
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

// Write appends p.
func (c *ChunkWriter) Write(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		space, err := c.Room(ctx)
		if err != nil {
			return err
		}
		n := copy(space, p)
		c.Grow(n)
		p = p[n:]
	}
	return nil
}

// Zeros appends n zero bytes.
func (c *ChunkWriter) Zeros(ctx context.Context, n int64) error {
	for n > 0 {
		space, err := c.Room(ctx)
		if err != nil {
			return err
		}
		space = space[:min(int64(len(space)), n)]
		clear(space)
		c.Grow(len(space))
		n -= int64(len(space))
	}
	return nil
}
