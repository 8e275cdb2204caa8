package inflate

import (
	"encoding/binary"
	"fmt"
)

// load brings bits up to 56 at least. The bytes must be there, if only as padding.
func (r *Reader) load() {
	r.bits |= binary.LittleEndian.Uint64(r.in[r.pos:]) << (r.n & 63)
	r.pos += int((63 - r.n) >> 3)
	r.n |= 56
}

// take returns the next bits, which have been loaded.
func (r *Reader) take(n uint) int {
	v := r.bits & (1<<n - 1)
	r.bits >>= n
	r.n -= n
	return int(v)
}

// alignToByte drops the rest of a byte and gives back the bytes that were loaded too
// early.
func (r *Reader) alignToByte() {
	r.pos -= int(r.n / 8)
	r.bits, r.n = 0, 0
}

// blockHeader begins the next block.
func (r *Reader) blockHeader() error {
	if err := r.more(); err != nil {
		return err
	}
	r.load()
	r.last = r.take(1) == 1
	switch kind := r.take(2); kind {
	case 0:
		return r.beginStored()
	case 1:
		return r.beginFixed()
	case 2:
		return r.beginDynamic()
	default:
		return fmt.Errorf("%w: a block of kind %d", ErrData, kind)
	}
}

func (r *Reader) beginStored() error {
	r.alignToByte()
	var size [4]byte
	if err := r.bytes(size[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint16(size[:2])
	if n != ^binary.LittleEndian.Uint16(size[2:]) {
		return fmt.Errorf("%w: size of a stored block", ErrData)
	}
	if r.left = int(n); n > 0 {
		r.block = (*Reader).stored
	}
	return nil
}

// stored goes on with a stored block.
func (r *Reader) stored() error {
	n := min(r.left, len(r.out)-slack-r.filled)
	if err := r.more(); err != nil {
		return err
	}
	n = min(n, r.end-r.padded()-r.pos)
	if n == 0 {
		return r.short()
	}
	copy(r.out[r.filled:], r.in[r.pos:r.pos+n])
	r.pos += n
	r.filled += n
	if r.left -= n; r.left == 0 {
		r.block = nil
	}
	return nil
}

func (r *Reader) beginFixed() error {
	var lengths [maxLiterals]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	var dists [maxDists]uint8
	for i := range dists {
		dists[i] = 5
	}
	return r.begin(lengths[:], dists[:])
}

// lengthsOrder is the order in which a block gives the lengths of the code for its code
// lengths (RFC 1951, 3.2.7).
var lengthsOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

func (r *Reader) beginDynamic() error {
	literals, dists, some := r.take(5)+257, r.take(5)+1, r.take(4)+4
	if literals > 286 || dists > 30 {
		return fmt.Errorf("%w: %d literal and %d distance codes", ErrData, literals, dists)
	}
	var short [19]uint8
	for i := range some {
		if i%16 == 0 {
			if err := r.more(); err != nil {
				return err
			}
			r.load()
		}
		short[lengthsOrder[i]] = uint8(r.take(3))
	}
	var table [1 << lengthsBits]entry
	if err := build(table[:], lengthsBits, short[:], lengthsMeaning[:]); err != nil {
		return err
	}
	// a repetition may reach beyond what is wanted, which is found afterwards
	var lengths [maxLiterals + maxDists + 138]uint8
	i := 0
	for i < literals+dists {
		if err := r.more(); err != nil {
			return err
		}
		r.load()
		e := table[r.bits&(1<<lengthsBits-1)]
		if e&exceptional != 0 {
			return fmt.Errorf("%w: a code length", ErrData)
		}
		r.take(uint(e & 0xff))
		symbol := uint8(e >> 16)
		if symbol < 16 {
			lengths[i] = symbol
			i++
			continue
		}
		value, times := uint8(0), 0
		switch symbol {
		case 16:
			if i == 0 {
				return fmt.Errorf("%w: nothing to repeat", ErrData)
			}
			value, times = lengths[i-1], 3+r.take(2)
		case 17:
			times = 3 + r.take(3)
		case 18:
			times = 11 + r.take(7)
		}
		for range times {
			lengths[i] = value
			i++
		}
	}
	if i > literals+dists {
		return fmt.Errorf("%w: more code lengths than codes", ErrData)
	}
	if lengths[256] == 0 {
		return fmt.Errorf("%w: a block without an end", ErrData)
	}
	return r.begin(lengths[:literals], lengths[literals:literals+dists])
}

func (r *Reader) begin(literals, dists []uint8) error {
	if err := build(r.literals[:], literalBits, literals, literalMeaning[:]); err != nil {
		return err
	}
	if err := build(r.dists[:], distBits, dists, distMeaning[:]); err != nil {
		return err
	}
	r.block = (*Reader).symbols
	return nil
}
