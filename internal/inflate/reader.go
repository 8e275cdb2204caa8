package inflate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrData means that the input is no gzip stream, or a damaged one. An input that ends
// too early is io.ErrUnexpectedEOF.
var ErrData = errors.New("invalid gzip data")

const (
	window  = 32 << 10  // how far back a match can reach
	ahead   = 256 << 10 // how much is decoded at a time
	slack   = 258 + 24  // what one round of the inner loop writes at most, beyond the room it looked for
	inSize  = 64 << 10
	padding = 64 // behind the input's end, zeros; and how much input the inner loop wants to see
)

// Reader decompresses one gzip stream: all of its members, which follow each other
// without anything between them, and with nothing behind them but zeros. It reads its
// source to the end, works in the goroutine that reads, and keeps 350 KiB. It must not be
// used by several goroutines at once.
type Reader struct {
	src io.Reader
	err error // what Read returns once everything decoded has been handed out

	in     []byte // what has been read of src, padding behind it
	pos    int    // of the next byte that isn't in bits
	end    int    // of what has been read; the padding, once all has been
	ended  bool   // src gives no more
	srcErr error  // why; nil for io.EOF
	bits   uint64 // the lowest comes first
	n      uint   // how many of bits count

	out    []byte // window, then room
	given  int    // out[:given] has been handed out, or is the window
	filled int    // out[:filled] has been decoded
	first  int    // where the current member begins in out, or 0 if that is gone

	block func(*Reader) error // goes on within a block; nil between blocks
	last  bool                // the block is the member's last one
	left  int                 // of a stored block

	crc  uint32 // of the member
	size uint32

	literals literalTable
	dists    distTable
}

// NewReader returns a Reader of src, having read the header of the first member.
func NewReader(src io.Reader) (*Reader, error) {
	r := &Reader{src: src, in: make([]byte, inSize+padding), out: make([]byte, window+ahead+slack)}
	if err := r.header(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.given == r.filled {
		if r.err != nil {
			return 0, r.err
		}
		r.decode()
	}
	n := copy(p, r.out[r.given:r.filled])
	r.given += n
	return n, nil
}

// decode fills the room with what comes next, as far as it goes. Everything decoded
// before has been handed out.
func (r *Reader) decode() {
	if shift := r.filled - window; shift > 0 {
		copy(r.out, r.out[shift:r.filled])
		r.filled, r.given = window, window
		r.first = max(0, r.first-shift)
	}
	begun := r.filled
	for r.err == nil && r.filled < len(r.out)-slack {
		r.err = r.step()
		if r.block == nil && (r.last || r.err != nil) {
			r.sum(begun)
			begun = r.filled
			if r.err == nil {
				r.err = r.endOfMember()
			}
		}
	}
	r.sum(begun)
}

func (r *Reader) sum(from int) {
	r.crc = crc32.Update(r.crc, crc32.IEEETable, r.out[from:r.filled])
	r.size += uint32(r.filled - from)
}

// step decodes a block's header, or some of a block. What was decoded from padding counts
// for nothing.
func (r *Reader) step() error {
	decoded := r.filled
	next := (*Reader).blockHeader
	if r.block != nil {
		next = r.block
	}
	err := next(r)
	if r.overrun() {
		r.filled = decoded
		return r.short()
	}
	return err
}

// endOfMember compares the checks behind a member, and reads the header of the next one.
// io.EOF means that there is none.
func (r *Reader) endOfMember() error {
	r.alignToByte()
	var check [8]byte
	if err := r.bytes(check[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(check[:4]) != r.crc || binary.LittleEndian.Uint32(check[4:]) != r.size {
		return fmt.Errorf("%w: checksum", ErrData)
	}
	for zeros := false; ; r.pos++ {
		if r.pos >= r.end-r.padded() {
			if err := r.more(); err != nil {
				return err
			}
			if r.srcErr != nil {
				return r.srcErr
			}
			if r.pos >= r.end-r.padded() {
				return io.EOF
			}
		}
		// Zeros behind the last member fill a tape's block, as gzip(1) has it.
		if r.in[r.pos] != 0 && zeros {
			return fmt.Errorf("%w: something behind the zeros at the end", ErrData)
		}
		if r.in[r.pos] != 0 {
			return r.header()
		}
		zeros = true
	}
}

// Flags of a member's header (RFC 1952, 2.3.1).
const (
	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
	flagsReserved = 7 << 5
)

// header reads the header of a member.
func (r *Reader) header() error {
	r.bits, r.n = 0, 0
	r.crc, r.size, r.last, r.block, r.first = 0, 0, false, nil, r.filled
	var head [10]byte
	if err := r.headerBytes(head[:]); err != nil {
		return err
	}
	if head[0] != 0x1f || head[1] != 0x8b || head[2] != 8 {
		return fmt.Errorf("%w: no header of a member", ErrData)
	}
	flags := head[3]
	if flags&flagsReserved != 0 {
		return fmt.Errorf("%w: header with reserved flags %#x", ErrData, flags&flagsReserved)
	}
	if flags&flagExtra != 0 {
		var size [2]byte
		if err := r.headerBytes(size[:]); err != nil {
			return err
		}
		if err := r.headerBytes(make([]byte, binary.LittleEndian.Uint16(size[:]))); err != nil {
			return err
		}
	}
	for _, text := range []byte{flagName, flagComment} {
		if flags&text == 0 {
			continue
		}
		for c := []byte{1}; c[0] != 0; {
			if err := r.headerBytes(c); err != nil {
				return err
			}
		}
	}
	if flags&flagHeaderCRC != 0 {
		want := uint16(r.crc)
		var sum [2]byte
		if err := r.bytes(sum[:]); err != nil {
			return err
		}
		if binary.LittleEndian.Uint16(sum[:]) != want {
			return fmt.Errorf("%w: checksum of a header", ErrData)
		}
	}
	r.crc = 0
	return nil
}

func (r *Reader) headerBytes(p []byte) error {
	err := r.bytes(p)
	r.crc = crc32.Update(r.crc, crc32.IEEETable, p)
	return err
}

// bytes reads whole bytes. No bits may be pending.
func (r *Reader) bytes(p []byte) error {
	for len(p) > 0 {
		if err := r.more(); err != nil {
			return err
		}
		n := copy(p, r.in[r.pos:r.end-r.padded()])
		if n == 0 {
			return r.short()
		}
		r.pos += n
		p = p[n:]
	}
	return nil
}

// padded is how much of what stands before end is padding.
func (r *Reader) padded() int {
	if r.ended {
		return padding
	}
	return 0
}

// more makes sure that there is enough input to load bits from, in the worst case
// padding.
func (r *Reader) more() error {
	for r.end-r.pos < padding && !r.ended {
		unused := r.pos - int(r.n/8) // bytes in bits may have to be given back
		copy(r.in, r.in[unused:r.end])
		r.pos, r.end = r.pos-unused, r.end-unused
		n, err := r.src.Read(r.in[r.end:inSize])
		r.end += n
		if err != nil {
			if err != io.EOF {
				r.srcErr = err
			}
			r.ended = true
			clear(r.in[r.end : r.end+padding])
			r.end += padding
		}
	}
	if r.overrun() {
		return r.short()
	}
	return nil
}

// overrun tells that bits of the padding have been used.
func (r *Reader) overrun() bool { return r.ended && r.pos-int(r.n/8) > r.end-padding }

// short is the error for an input that isn't long enough.
func (r *Reader) short() error {
	if r.srcErr != nil {
		return r.srcErr
	}
	return io.ErrUnexpectedEOF
}
