package compress

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math"
	"math/bits"

	"github.com/shalestore/shale/errdefs"
)

// maxXzDictionary is what xz -9 uses. An xz block announces how much of its output a
// decoder must be able to look back at, up to 4 GiB. The decoder (ulikunitz/xz, v0.5.17)
// takes that much memory, and its DictCap is no bound but the least that it takes; so
// whoever sends a layer of a few kilobytes would take as much of our memory.
const maxXzDictionary = 64 << 20

// xzGuard passes an xz file on and reads along (the .xz file format, version 1.2.1): of
// every block of every stream in it, it sees the header before the decoder does, and ends
// with an error at one that wants too large a dictionary. It finds the blocks by walking
// over the LZMA2 chunks, whose headers say how long they are. Whether anything else is
// right is for the decoder to say.
type xzGuard struct {
	in    *bufio.Reader
	yield func([]byte) bool
	next  func() ([]byte, bool)
	stop  func()
	rest  []byte // passed on and not read yet
	err   error  // why nothing more is
}

func newXzGuard(in *bufio.Reader) *xzGuard {
	g := &xzGuard{in: in}
	g.next, g.stop = iter.Pull(func(yield func([]byte) bool) {
		g.yield = yield
		for g.err == nil {
			g.stream()
		}
		if g.err == io.EOF { //nolint:errorlint // a wrapped one is a failure of the source
			// The input ends within a piece of structure, or is no xz: the decoder will
			// say so.
			g.err = nil
			g.pass(math.MaxInt64)
		}
	})
	return g
}

func (g *xzGuard) Read(p []byte) (int, error) {
	if len(g.rest) == 0 {
		var more bool
		if g.rest, more = g.next(); !more {
			return 0, g.err
		}
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

// fail keeps the first error. After one there is nothing to see but zeros, which end
// every loop, and nothing is passed on.
func (g *xzGuard) fail(err error) {
	if g.err == nil {
		g.err = err
	}
}

// peek looks at the next n bytes.
func (g *xzGuard) peek(n int) []byte {
	if g.err == nil {
		var b []byte
		if b, g.err = g.in.Peek(n); g.err == nil {
			return b
		}
	}
	return make([]byte, n)
}

// pass passes the next n bytes on.
func (g *xzGuard) pass(n int64) {
	for n > 0 && g.err == nil {
		g.peek(1) // fills the buffer
		piece, _ := g.in.Peek(int(min(n, int64(g.in.Buffered()))))
		if len(piece) > 0 && !g.yield(piece) {
			g.fail(io.ErrClosedPipe)
		}
		_, _ = g.in.Discard(len(piece)) // what was peeked at is there
		n -= int64(len(piece))
	}
}

// stream goes through one stream, or the padding before one.
func (g *xzGuard) stream() {
	if string(g.peek(4)) == "\x00\x00\x00\x00" {
		g.pass(4)
		return
	}
	head := g.peek(12)
	if string(head[:4]) != "\xfd7zX" {
		g.fail(io.EOF)
	}
	checkSize := [16]int64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[head[7]&15]
	g.pass(12)
	for g.peek(1)[0] != 0 {
		header := g.peek((int(g.peek(1)[0]) + 1) * 4)
		g.fail(checkXzFilters(header[1:]))
		g.pass(int64(len(header)))
		g.pass(-g.chunks()&3 + checkSize)
	}
	// The index: a zero, the number of blocks, two numbers for each; padding, a checksum,
	// and the footer of the stream.
	g.pass(1)
	count, size := g.number()
	size++
	for range 2 * min(count, math.MaxInt64/2) {
		_, n := g.number()
		if size += n; g.err != nil {
			return
		}
	}
	g.pass(-size&3 + 4 + 12)
}

// checkXzFilters reads a block header from its flags on and refuses large dictionaries.
func checkXzFilters(header []byte) error {
	rest, damaged := header[1:], false
	number := func() uint64 {
		v, n := binary.Uvarint(rest)
		damaged = damaged || n <= 0
		rest = rest[max(n, 0):]
		return v
	}
	for range bits.OnesCount8(header[0] & 0xc0) { // compressed and uncompressed size
		number()
	}
	for range int(header[0]&3) + 1 {
		id, size := number(), number()
		if damaged || size > uint64(len(rest)) {
			return fmt.Errorf("xz block header: %w: damaged", errdefs.ErrInvalid)
		}
		properties := rest[:size]
		rest = rest[size:]
		if id != 0x21 { // LZMA2
			continue
		}
		if len(properties) != 1 || properties[0] > 40 {
			return fmt.Errorf("xz block header: %w: damaged", errdefs.ErrInvalid)
		}
		code := properties[0]
		if dictionary := uint64(2|code&1) << (code/2 + 11); dictionary > maxXzDictionary {
			return fmt.Errorf("xz block: %w: it wants a dictionary of %d MiB, and the limit is %d MiB",
				errdefs.ErrInvalid, dictionary>>20, maxXzDictionary>>20)
		}
	}
	return nil
}

// chunks goes through the LZMA2 chunks of a block and returns how many bytes they are.
func (g *xzGuard) chunks() (size int64) {
	for {
		control := g.peek(1)[0]
		header, sizeAt := 6, 3 // with new properties
		switch {
		case control == 0: // the last one
			g.pass(1)
			return size + 1
		case control <= 2: // uncompressed
			header, sizeAt = 3, 1
		case control < 0x80:
			g.fail(io.EOF)
		case control < 0xc0:
			header = 5
		}
		n := int64(header) + int64(binary.BigEndian.Uint16(g.peek(header)[sizeAt:])) + 1
		g.pass(n)
		size += n
	}
}

// number reads a multibyte integer of the index, and returns its length as well.
func (g *xzGuard) number() (v uint64, size int64) {
	v, n := binary.Uvarint(g.peek(9))
	if n <= 0 {
		g.fail(fmt.Errorf("xz index: %w: damaged", errdefs.ErrInvalid))
	}
	g.pass(int64(n))
	return v, int64(n)
}
