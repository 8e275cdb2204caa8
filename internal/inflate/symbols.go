package inflate

import (
	"encoding/binary"
	"fmt"
)

var (
	errCode = fmt.Errorf("%w: a bit pattern that is no code", ErrData)
	errDist = fmt.Errorf("%w: a match before the beginning", ErrData)
)

// symbols goes on with a compressed block until that ends, the room is full or the input
// is low. Near the input's end it goes on by a symbol or a few, so that little is lost
// when they turn out to be made of padding.
func (r *Reader) symbols() error {
	if err := r.more(); err != nil {
		return err
	}
	lastPos := r.end - r.padded() - 2*8
	if r.ended {
		lastPos = max(lastPos, r.pos)
	}
	return r.symbolsUpTo(lastPos)
}

// symbolsUpTo is symbols while the input's position is not after lastPos. Each round
// loads twice, so that it needs 16 bytes.
//
// The state lives in local variables: kept in r, each symbol would cost several stores.
// Between two loads at most 56 bits are used: a literal or length has 15 and 5 extra, a
// distance 15 and 13; a literal that the main table knows has 11.
func (r *Reader) symbolsUpTo(lastPos int) error {
	const (
		literalMask = 1<<literalBits - 1
		distMask    = 1<<distBits - 1
	)
	in, out := r.in, r.out
	pos, filled, b, n := r.pos, r.filled, r.bits, r.n
	lastFilled := len(out) - slack
	literals, dists := &r.literals, &r.dists
	var err error
	for pos <= lastPos && filled < lastFilled {
		b |= binary.LittleEndian.Uint64(in[pos:]) << (n & 63)
		pos += int((63 - n) >> 3)
		n |= 56
		e := literals[b&literalMask]
		if e&isLiteral != 0 {
			b >>= e & 63
			n -= uint(e & 0xff)
			out[filled] = byte(e >> 16)
			filled++
			e = literals[b&literalMask]
			if e&isLiteral != 0 {
				b >>= e & 63
				n -= uint(e & 0xff)
				out[filled] = byte(e >> 16)
				filled++
				e = literals[b&literalMask]
				if e&isLiteral != 0 {
					b >>= e & 63
					n -= uint(e & 0xff)
					out[filled] = byte(e >> 16)
					filled++
					continue
				}
			}
			b |= binary.LittleEndian.Uint64(in[pos:]) << (n & 63)
			pos += int((63 - n) >> 3)
			n |= 56
		}
		if e&exceptional != 0 {
			if e&isSubtable != 0 {
				b >>= literalBits
				n -= literalBits
				e = literals[uint64(e>>16)+b&(1<<(e>>8&15)-1)]
				if e&isLiteral != 0 {
					b >>= e & 63
					n -= uint(e & 0xff)
					out[filled] = byte(e >> 16)
					filled++
					continue
				}
			}
			if e&exceptional != 0 {
				b >>= e & 63
				n -= uint(e & 0xff)
				if e&isEnd == 0 {
					err = errCode
				}
				r.block = nil
				break
			}
		}
		length := int(e>>16) + int((b&(1<<(e&63)-1))>>(e>>8&15))
		b >>= e & 63
		n -= uint(e & 0xff)

		e = dists[b&distMask]
		if e&exceptional != 0 {
			if e&isSubtable != 0 {
				b >>= distBits
				n -= distBits
				e = dists[uint64(e>>16)+b&(1<<(e>>8&15)-1)]
			}
			if e&exceptional != 0 {
				err = errCode
				break
			}
		}
		dist := int(e>>16) + int((b&(1<<(e&63)-1))>>(e>>8&15))
		b >>= e & 63
		n -= uint(e & 0xff)
		if dist > filled-r.first {
			err = errDist
			break
		}
		copyMatch(out, filled, dist, length)
		filled += length
	}
	r.pos, r.filled, r.bits, r.n = pos, filled, b, n
	return err
}

// copyMatch repeats length bytes from dist bytes before at. It may write up to 15 bytes
// more than that.
func copyMatch(out []byte, at, dist, length int) {
	from := at - dist
	if dist >= 8 {
		for end := at + length; at < end; at, from = at+16, from+16 {
			binary.LittleEndian.PutUint64(out[at:], binary.LittleEndian.Uint64(out[from:]))
			binary.LittleEndian.PutUint64(out[at+8:], binary.LittleEndian.Uint64(out[from+8:]))
		}
		return
	}
	// A short pattern: as many whole repetitions of it as fit into a word at a time.
	pattern, step := uint64(0), 8/dist*dist
	for i := range 8 {
		pattern |= uint64(out[from+i%dist]) << (8 * i)
	}
	for end := at + length; at < end; at += step {
		binary.LittleEndian.PutUint64(out[at:], pattern)
	}
}
