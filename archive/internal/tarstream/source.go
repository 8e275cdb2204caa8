package tarstream

import (
	"bytes"
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

// inputBlocks is how many blocks of a compressed stream wait to be decompressed. They are
// of the same pool as those of what comes out.
const inputBlocks = 8

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
		return s.emit(io.MultiReader(bytes.NewReader(head), countingReader{s}))
	}
	s.Compressed = sha256.New()
	s.Compressed.Write(head)
	input, ended := make(chan *Block, inputBlocks), error(nil)
	run(func() {
		defer close(input)
		ended = s.readInput(input)
	})
	feed := &Stream{Ctx: s.ctx, Pieces: input, End: &ended}
	plain, _, err := compress.NewReader(io.MultiReader(bytes.NewReader(head), feed))
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

// readInput reads and hashes the compressed stream beside the goroutine that decompresses
// it, until it ends.
func (s *Source) readInput(to chan<- *Block) error {
	for {
		b, err := s.pool.get(s.ctx)
		if err != nil {
			return err
		}
		n, err := countingReader{s}.Read(b.data)
		b.data = b.data[:n]
		s.Compressed.Write(b.data)
		select {
		case to <- b:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
		if err != nil {
			return err
		}
	}
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
