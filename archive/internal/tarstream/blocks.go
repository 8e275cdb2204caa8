package tarstream

import (
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The uncompressed stream travels between the stages in blocks that are counted
// and shared, never copied: the hash, the parser and the file writers look at the same
// memory. The number of blocks is the memory bound of the whole pipeline. A stage that
// wants a block when all are in use waits until the slowest other stage gives one back.

const (
	BlockSize = 256 << 10 // a multiple of the tar block, so that no header straddles two
	Blocks    = 96        // 24 MiB in all
)

// Block is a piece of the uncompressed stream: 256 KiB, except for the last one.
type Block struct {
	data []byte
	refs atomic.Int32
	pool *blockPool
}

func (b *Block) Retain() { b.refs.Add(1) }

// Release gives the block back when nobody needs it any more. Its data must not be
// touched afterwards.
func (b *Block) Release() {
	if b.refs.Add(-1) == 0 {
		b.pool.put(b)
	}
}

// blockPool owns the blocks of one stream. Their memory is mapped outside of Go's heap:
// there it would be garbage for the collector to pace itself by, and would cost twice its
// size.
type blockPool struct {
	arena  []byte
	tokens chan struct{} // one for each free block
	mu     sync.Mutex
	// a stack: the block used last is the one still in the cache, and a short stream
	// touches little memory
	free []*Block
}

func NewBlockPool() (*blockPool, error) {
	arena, err := unix.Mmap(-1, 0, Blocks*BlockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|
		unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	p := &blockPool{arena: arena, tokens: make(chan struct{}, Blocks)}
	for i := range Blocks {
		p.free = append(p.free, &Block{data: arena[i*BlockSize:][:BlockSize:BlockSize],
			pool: p})
		p.tokens <- struct{}{}
	}
	return p, nil
}

// get waits for a free block. It comes with one reference and its full length.
func (p *blockPool) get(ctx context.Context) (*Block, error) {
	select {
	case <-p.tokens:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	p.mu.Lock()
	b := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.mu.Unlock()
	b.data = b.data[:BlockSize]
	b.refs.Store(1)
	return b, nil
}

func (p *blockPool) put(b *Block) {
	p.mu.Lock()
	p.free = append(p.free, b)
	p.mu.Unlock()
	p.tokens <- struct{}{}
}

// Close unmaps the memory. No stage may be running any more.
func (p *blockPool) Close() { unix.Munmap(p.arena) }

// Stream reads what another stage puts out: the uncompressed stream for the parser, say.
type Stream struct {
	Ctx    context.Context
	Pieces <-chan *Block
	End    *error // why pieces was closed; io.EOF for the stream's end
	Cur    *Block
	rest   []byte // of cur
	err    error  // io.EOF or what ended the stream
}

// fill makes sure that there is a byte to read; it returns io.EOF at the end.
func (s *Stream) fill() error {
	for len(s.rest) == 0 {
		if s.err != nil {
			return s.err
		}
		if s.Cur != nil {
			s.Cur.Release()
			s.Cur = nil
		}
		select {
		case block, ok := <-s.Pieces:
			if !ok {
				s.err = *s.End
				continue
			}
			s.Cur, s.rest = block, block.data
		case <-s.Ctx.Done():
			s.err = context.Cause(s.Ctx)
		}
	}
	return nil
}

// Next returns no more than most bytes, which stay valid until the next call, or longer
// for a caller that retains s.cur.
func (s *Stream) Next(most int64) ([]byte, error) {
	if err := s.fill(); err != nil {
		return nil, err
	}
	n := min(int64(len(s.rest)), most)
	piece := s.rest[:n]
	s.rest = s.rest[n:]
	return piece, nil
}

// Read makes an io.Reader of it.
func (s *Stream) Read(p []byte) (int, error) {
	piece, err := s.Next(int64(len(p)))
	return copy(p, piece), err
}
