package inflate

import (
	"fmt"
	"math/bits"
)

// An entry of a decoding table says what to do with the bits at hand.
//
//	literal         1 in bit 31, the byte in bits 16-23
//	length or       the base value in bits 16-30, the length of the code in bits 8-11; the extra bits follow the code
//	distance
//	subtable        exceptional and isSubtable; its start in bits 16-30, its index bits in bits 8-11
//	end of block    exceptional and isEnd
//	no such code    exceptional alone
//
// Bits 0-7 are how many bits are used up: by the code, with extra bits where there are
// any, or by the main table before a subtable.
type entry uint32

const (
	isLiteral   entry = 1 << 31
	exceptional entry = 1 << 15
	isSubtable  entry = 1 << 14
	isEnd       entry = 1 << 13
)

// The main tables take in so many bits of a code at once, the most frequent symbols thus
// wholly. The subtables' room is what "enough" of zlib's examples computes as the most
// that 288 and 32 codes of up to 15 bits can need.
const (
	literalBits = 11
	literalRoom = 2342
	distBits    = 8
	distRoom    = 402
	lengthsBits = 7 // of the code for the code lengths; these have no longer codes

	maxCode     = 15
	maxLiterals = 288
	maxDists    = 32
)

type literalTable [literalRoom]entry
type distTable [distRoom]entry

// Meanings of symbols, without the code's length (RFC 1951, 3.2.5).
var (
	literalMeaning = meaningOfLiterals()
	distMeaning    = meaningOfDists()
	lengthsMeaning = meaningOfLengths()
)

func meaningOfLiterals() (m [maxLiterals]entry) {
	for i := range 256 {
		m[i] = isLiteral | entry(i)<<16
	}
	m[256] = exceptional | isEnd
	base := 3
	for i := range 28 {
		extra := max(0, i/4-1)
		m[257+i] = entry(base)<<16 | entry(extra)
		base += 1 << extra
	}
	m[285] = 258 << 16
	m[286], m[287] = exceptional, exceptional
	return m
}

func meaningOfDists() (m [maxDists]entry) {
	base := 1
	for i := range 30 {
		extra := max(0, i/2-1)
		m[i] = entry(base)<<16 | entry(extra)
		base += 1 << extra
	}
	m[30], m[31] = exceptional, exceptional
	return m
}

func meaningOfLengths() (m [19]entry) {
	for i := range m {
		m[i] = entry(i) << 16
	}
	return m
}

// build fills a table of 1<<mainBits entries, and subtables behind it, for symbols whose
// codes have the given lengths (0 for none).
//
// The codes must use up all bit patterns, as RFC 1951 wants it, with the exceptions that
// everyone makes: no code at all, and a single code of one bit.
func build(table []entry, mainBits uint, lengths []uint8, meaning []entry) error {
	var count [maxCode + 1]int
	for _, l := range lengths {
		count[l]++
	}
	longest := maxCode
	for longest > 0 && count[longest] == 0 {
		longest--
	}
	free := 1
	for l := 1; l <= maxCode; l++ {
		if free = free<<1 - count[l]; free < 0 {
			return fmt.Errorf("%w: too many codes", ErrData)
		}
	}
	if free > 0 {
		if longest > 1 {
			return fmt.Errorf("%w: too few codes", ErrData)
		}
		for i := range 1 << mainBits {
			table[i] = exceptional
		}
	}

	// Symbols in the order of their codes: by length, then by value.
	var next [maxCode + 2]int
	for l := 1; l <= maxCode; l++ {
		next[l+1] = next[l] + count[l]
	}
	var sorted [maxLiterals]uint16
	for symbol, l := range lengths {
		if l > 0 {
			sorted[next[l]] = uint16(symbol)
			next[l]++
		}
	}

	code, length, end := 0, 0, 1<<mainBits
	subtable, subtableOf, subtableBits := 0, -1, uint(0)
	for _, symbol := range sorted[:len(lengths)-count[0]] {
		l := int(lengths[symbol])
		code <<= l - length
		length = l
		// Codes come with their first bit lowest.
		reversed := int(bits.Reverse16(uint16(code)) >> (16 - l))
		code++
		at, width, used := table, mainBits, uint(l) // where the entry goes, and the bits that it uses up
		if l > int(mainBits) {
			if prefix := reversed & (1<<mainBits - 1); prefix != subtableOf {
				subtableOf, subtable = prefix, end
				subtableBits = uint(l) - mainBits
				// Large enough for the codes that are left: count has those that have no
				// place yet.
				for room := count[l]; room < 1<<subtableBits && mainBits+subtableBits < maxCode; {
					subtableBits++
					room = room<<1 + count[mainBits+subtableBits]
				}
				end += 1 << subtableBits
				if end > len(table) {
					return fmt.Errorf("%w: codes that no table holds", ErrData)
				}
				table[prefix] = exceptional | isSubtable | entry(subtable)<<16 | entry(subtableBits)<<8 |
					entry(mainBits)
			}
			at, width, used = table[subtable:], subtableBits, uint(l)-mainBits
			reversed >>= mainBits
		}
		m := meaning[symbol]
		e := m + entry(used) // the bits used up are extra bits and code
		if m&exceptional == 0 || m&isEnd != 0 {
			e |= entry(used) << 8
		}
		for i := reversed; i < 1<<width; i += 1 << used {
			at[i] = e
		}
		count[l]--
	}
	return nil
}
