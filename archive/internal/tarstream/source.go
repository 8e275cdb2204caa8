package tarstream

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync/atomic"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/compress"
)

// The first three stages of a pipeline: read and hash what comes in, decompress it, hash
// what comes out.

const (
	inputChunk  = 128 << 10 // of a compressed stream
	inputChunks = 8
)

// Source runs the stages up to the uncompressed stream. Each is one goroutine; all of
// them end when the stream does or ctx is done, except while a Read of the input blocks.
type Source struct {
	ctx      context.Context
	in       io.Reader
	pool     *blockPool
	limits   archive.Limits
	progress func(int64)

	Pieces chan *Block // to the parser
	End    error       // why pieces was closed: io.EOF, or what went wrong; to be read once it is closed
	hashed chan *Block // to the hash of the uncompressed stream

	// Results; to be read after all goroutines have ended.
	Kind         compress.Kind
	Compressed   hash.Hash
	Uncompressed hash.Hash
	Read         atomic.Int64
	Written      int64
}

func NewSource(ctx context.Context, in io.Reader, pool *blockPool, limits archive.Limits,
	progress func(int64)) *Source {
	return &Source{
		ctx: ctx, in: in, pool: pool, limits: limits, progress: progress,
		Pieces:       make(chan *Block, 4),
		hashed:       make(chan *Block, Blocks),
		Uncompressed: sha256.New(),
	}
}

// Start runs the stages with the given way of starting a goroutine.
func (s *Source) Start(run func(func())) {
	run(func() {
		for b := range s.hashed {
			s.Uncompressed.Write(b.data)
			b.Release()
		}
	})
	run(func() {
		defer close(s.Pieces)
		defer close(s.hashed)
		// The channel's closing alone says nothing of how the stream ended: a cancelled
		// one must not look like a short one.
		if s.End = s.produce(run); s.End == nil {
			s.End = io.EOF
		}
	})
}

// produce looks at the first bytes and turns the input into blocks.
func (s *Source) produce(run func(func())) error {
	head := make([]byte, compress.LongestMagic)
	n, err := fill(countingReader{s}, head)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	head = head[:n]
	s.Kind = compress.Detect(head)
	if s.Kind == compress.None {
		// One digest serves for both: the stream is what is in it.
		return s.emit(io.MultiReader(bytesReader(head), countingReader{s}))
	}
	s.Compressed = sha256.New()
	s.Compressed.Write(head)
	feed := newChunkReader(s.ctx)
	run(func() { feed.pump(countingReader{s}, s.Compressed) })
	plain, _, err := compress.NewReader(io.MultiReader(bytesReader(head), feed))
	if err == nil {
		err = s.emit(plain)
		plain.Close()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	// What follows the compressed stream belongs to the blob and its digest.
	_, err = io.Copy(io.Discard, feed)
	return err
}

// emit reads plain into blocks until it ends.
func (s *Source) emit(plain io.Reader) error {
	for {
		b, err := s.pool.get(s.ctx)
		if err != nil {
			return err
		}
		n, err := fill(plain, b.data)
		b.data = b.data[:n]
		s.Written += int64(n)
		if lerr := s.limits.CheckBytes(s.Read.Load(), s.Written); lerr != nil {
			return lerr
		}
		if n > 0 {
			b.Retain()
			s.hashed <- b
			select {
			case s.Pieces <- b:
			case <-s.ctx.Done():
				return context.Cause(s.ctx)
			}
		}
		if err != nil {
			return err
		}
	}
}

// fill reads until p is full or r ends. Unlike io.ReadFull it leaves the error as it is:
// an input that itself ends in io.ErrUnexpectedEOF, as a broken network connection does,
// has not ended well.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// countingReader is the input of a source, counted and reported.
type countingReader struct{ s *Source }

func (c countingReader) Read(p []byte) (int, error) {
	if c.s.ctx.Err() != nil {
		return 0, context.Cause(c.s.ctx)
	}
	n, err := c.s.in.Read(p)
	total := c.s.Read.Add(int64(n))
	if c.s.progress != nil && n > 0 {
		c.s.progress(total)
	}
	return n, err
}

// chunkReader hands the compressed stream from the goroutine that reads and hashes it to
// the one that decompresses it.
type chunkReader struct {
	ctx   context.Context
	full  chan []byte
	empty chan []byte
	err   error // why full was closed; nil at the stream's end
	cur   []byte
	rest  []byte
}

func newChunkReader(ctx context.Context) *chunkReader {
	c := &chunkReader{ctx: ctx, full: make(chan []byte, inputChunks), empty: make(chan []byte, inputChunks)}
	for range inputChunks {
		c.empty <- nil // allocated when first needed
	}
	return c
}

// pump reads r until it ends.
func (c *chunkReader) pump(r io.Reader, h hash.Hash) {
	defer close(c.full)
	for {
		var buf []byte
		select {
		case buf = <-c.empty:
		case <-c.ctx.Done():
			c.err = context.Cause(c.ctx)
			return
		}
		if buf == nil {
			buf = make([]byte, inputChunk)
		}
		n, err := r.Read(buf[:inputChunk])
		if n > 0 {
			h.Write(buf[:n])
			c.full <- buf[:n] // never blocks: there are no more chunks than places
		} else {
			c.empty <- buf
		}
		if err != nil {
			if err != io.EOF {
				c.err = err
			}
			return
		}
	}
}

func (c *chunkReader) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.cur != nil {
			c.empty <- c.cur
			c.cur = nil
		}
		buf, ok := <-c.full
		if !ok {
			if c.err != nil {
				return 0, c.err
			}
			return 0, io.EOF
		}
		c.cur, c.rest = buf, buf
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// bytesReader is bytes.NewReader without its other methods, so that io.MultiReader treats
// all its readers alike.
func bytesReader(b []byte) io.Reader { return &sliceReader{b} }

type sliceReader struct{ rest []byte }

func (r *sliceReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
