// Package crc64 computes the CRC-64 of ISO 3309, which the tar-split format keeps of each
// file's content, several times as fast as hash/crc64 does: that looks eight bytes up in
// eight tables, while this polynomial, x⁶⁴+x⁴+x³+x+1, needs no table at all.
//
// Modulo the polynomial x⁶⁴ is x⁴+x³+x+1, so that a step by 64 bits is a multiplication
// by that: three shifts. Four steps at once are one by x²⁵⁶, which is (x⁴+x³+x+1)⁴ =
// x¹⁶+x¹²+x⁴+1, again three shifts. With that four words that don't wait for each other
// are under way at a time.
//
// Where there is more, the steps are so large that the shifts are whole words, and
// nothing is left but XOR, for which crypto/subtle has vector instructions: with y for
// x⁶⁴, y²⁵⁶ is (x⁴+x³+x+1)²⁵⁶ = y¹⁶+y¹²+y⁴+1.
//
// Bits are reflected, as in hash/crc64: bit 63 is the coefficient of x⁰, and multiplying
// by x is a shift to the right.
package crc64

import (
	"crypto/subtle"
	"encoding/binary"
)

// Update adds bytes to a checksum, as hash/crc64.Update does with its table for ISO. The
// checksum of nothing is 0.
func Update(sum uint64, p []byte) uint64 {
	sum = ^sum
	if len(p) >= foldFrom {
		sum, p = fold(sum, p)
	}
	return ^update(sum, p)
}

// Sum is the checksum of what is written to it.
type Sum uint64

func (s *Sum) Write(p []byte) (int, error) {
	*s = Sum(Update(uint64(*s), p))
	return len(p), nil
}

const (
	word      = 8
	remainder = 256 * word // bytes of what is left of a polynomial in y modulo y²⁵⁶+y¹⁶+y¹²+y⁴+1
	// bytes that can be appended at once: what they push beyond y²⁵⁶ doesn't get there
	// again
	stride   = remainder - 16*word
	foldFrom = remainder + 2*stride // where it begins to pay
)

// fold takes as many strides as there are and gives the sum so far, and what is left of
// p. Words of the highest degree come first, as in p.
func fold(sum uint64, p []byte) (uint64, []byte) {
	var one, other [remainder]byte
	rem, next := &one, &other
	p = p[copy(rem[:], p):]
	binary.LittleEndian.PutUint64(rem[:], binary.LittleEndian.Uint64(rem[:])^sum)
	for len(p) >= stride {
		// To append is to multiply by y²⁴⁰, by which the last sixteen words become the
		// first. The others, times y²⁵⁶, come back as the four terms.
		high := rem[:stride]
		copy(next[:], rem[stride:])
		subtle.XORBytes(next[16*word:], high, p[:stride])
		for _, degree := range [...]int{4, 12, 16} {
			at := next[(16-degree)*word:][:stride]
			subtle.XORBytes(at, at, high)
		}
		rem, next, p = next, rem, p[stride:]
	}
	return update(0, rem[:]), p
}

// update is Update for a sum that isn't inverted.
func update(sum uint64, p []byte) uint64 {
	if len(p) >= 64 {
		a, b, c, d := sum, uint64(0), uint64(0), uint64(0)
		for ; len(p) >= 64; p = p[32:] { // the last words are left for the steps by one
			a = by256(a ^ binary.LittleEndian.Uint64(p))
			b = by256(b ^ binary.LittleEndian.Uint64(p[8:]))
			c = by256(c ^ binary.LittleEndian.Uint64(p[16:]))
			d = by256(d ^ binary.LittleEndian.Uint64(p[24:]))
		}
		// a, b, c and d stand before the next four words.
		a = by64(a ^ binary.LittleEndian.Uint64(p))
		a = by64(a ^ b ^ binary.LittleEndian.Uint64(p[8:]))
		a = by64(a ^ c ^ binary.LittleEndian.Uint64(p[16:]))
		sum = by64(a ^ d ^ binary.LittleEndian.Uint64(p[24:]))
		p = p[32:]
	}
	for ; len(p) >= 8; p = p[8:] {
		sum = by64(sum ^ binary.LittleEndian.Uint64(p))
	}
	for _, b := range p {
		// The byte is the lowest eight bits; all that they are multiplied by fits behind
		// the rest.
		low := (sum ^ uint64(b)) << 56
		sum = sum>>8 ^ low ^ low>>1 ^ low>>3 ^ low>>4
	}
	return sum
}

// by64 is v·x⁶⁴ modulo the polynomial. What the shifts push out is x⁶⁴ and above, and
// goes the same way: that much fits.
func by64(v uint64) uint64 {
	v ^= v<<63 ^ v<<61 ^ v<<60
	v ^= v >> 1 // (x+1)·(x³+1) is the four terms
	return v ^ v>>3
}

// by256 is v·x²⁵⁶ modulo the polynomial.
func by256(v uint64) uint64 {
	out := v<<60 ^ v<<52 ^ v<<48 // beyond x⁶⁴
	out ^= out >> 1
	out ^= out >> 3
	v ^= v >> 4 // (x⁴+1)·(x¹²+1)
	return v ^ v>>12 ^ out
}
