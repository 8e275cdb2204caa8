// Package jsonscan checks the grammar of JSON (RFC 8259, any bytes in strings) and finds
// where things are, without building anything.
package jsonscan

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// MaxDepth bounds how deep values nest.
const MaxDepth = 1000

// Scanner goes through the bytes of a JSON text. Its methods take the
// position where something should start and return the one behind it, or -1 once there is
// a fault; the position stays in a register that way, and that is half the speed.
type Scanner struct {
	Data  []byte
	Fault *Fault // the first one
}

// Fault is a place where the grammar breaks, or what a visitor wants.
type Fault struct {
	Offset int
	Want   string
	EOF    bool // the text ends there
}

// Fail notes a fault at i.
func (s *Scanner) Fail(i int, want string) int {
	s.Fault = &Fault{Offset: i, Want: want, EOF: i >= len(s.Data)}
	return -1
}

// At returns the byte at i, or 0, which is no token, at the end.
func (s *Scanner) At(i int) byte {
	if i < len(s.Data) {
		return s.Data[i]
	}
	return 0
}

// Space skips white space. Programs write none, so the usual case has to be quick.
func (s *Scanner) Space(i int) int {
	if i < len(s.Data) && s.Data[i] > ' ' {
		return i
	}
	return s.moreSpace(i)
}

func (s *Scanner) moreSpace(i int) int {
	for i < len(s.Data) {
		switch s.Data[i] {
		case ' ', '\t', '\r', '\n':
			i++
		default:
			return i
		}
	}
	return i
}

// End makes sure that nothing but space follows what ends at i.
func (s *Scanner) End(i int, what string) int {
	if i = s.Space(i); i < len(s.Data) {
		return s.Fail(i, "nothing after "+what)
	}
	return i
}

// Value scans a value, and Literal one of the three words.
func (s *Scanner) Value(i, depth int) int {
	switch c := s.At(i); c {
	case '"':
		i, _ = s.str(i)
		return i
	case '{':
		return s.Members(i, depth+1, nil)
	case '[':
		return s.Array(i, depth+1, s.Value)
	case 't':
		return s.Literal(i, "true")
	case 'f':
		return s.Literal(i, "false")
	case 'n':
		return s.Literal(i, "null")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return s.number(i)
		}
		return s.Fail(i, "a value")
	}
}

// Members scans an object and calls visit, unless that is nil, for each member with the
// positions of its name, quotes included, and of its value. A visit that has called Fail
// ends the scan by returning false.
func (s *Scanner) Members(i, depth int, visit func(name, nameEnd int, plain bool, value, valueEnd int) bool) int {
	if depth > MaxDepth {
		return s.Fail(i, "less nesting")
	}
	if i = s.Space(i + 1); s.At(i) == '}' {
		return i + 1
	}
	for {
		if s.At(i) != '"' {
			return s.Fail(i, "a member's name in quotes")
		}
		keyEnd, plain := s.str(i)
		if keyEnd < 0 {
			return -1
		}
		start := s.Space(keyEnd)
		if s.At(start) != ':' {
			return s.Fail(start, "a colon")
		}
		start = s.Space(start + 1)
		end := s.Value(start, depth)
		if end < 0 {
			return -1
		}
		if visit != nil && !visit(i, keyEnd, plain, start, end) {
			return -1
		}
		switch i = s.Space(end); s.At(i) {
		case ',':
			i = s.Space(i + 1)
		case '}':
			return i + 1
		default:
			return s.Fail(i, "a comma or the end of the object")
		}
	}
}

// Array scans an array and each of its elements by element, which is told the depth.
func (s *Scanner) Array(i, depth int, element func(i, depth int) int) int {
	if depth > MaxDepth {
		return s.Fail(i, "less nesting")
	}
	if i = s.Space(i + 1); s.At(i) == ']' {
		return i + 1
	}
	for {
		if i = element(i, depth); i < 0 {
			return -1
		}
		switch i = s.Space(i); s.At(i) {
		case ',':
			i = s.Space(i + 1)
		case ']':
			return i + 1
		default:
			return s.Fail(i, "a comma or the end of the array")
		}
	}
}

func (s *Scanner) Literal(i int, word string) int {
	for k := range len(word) {
		if s.At(i) != word[k] {
			return s.Fail(i, "the word "+word)
		}
		i++
	}
	return i
}

// number scans -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (s *Scanner) number(i int) int {
	if s.At(i) == '-' {
		i++
	}
	if s.At(i) == '0' {
		i++
	} else if i = s.digits(i); i < 0 {
		return -1
	}
	if s.At(i) == '.' {
		if i = s.digits(i + 1); i < 0 {
			return -1
		}
	}
	if s.At(i)|0x20 == 'e' {
		i++
		if c := s.At(i); c == '+' || c == '-' {
			i++
		}
		return s.digits(i)
	}
	return i
}

func (s *Scanner) digits(i int) int {
	start := i
	for i < len(s.Data) && s.Data[i]-'0' <= 9 {
		i++
	}
	if i == start {
		return s.Fail(i, "a digit")
	}
	return i
}

// str scans a string; plain says that it has no escapes. Most of a file is inside
// strings, so this looks at eight bytes at a time for the three things that matter there:
// a quote, a backslash, a control character.
func (s *Scanner) str(i int) (end int, plain bool) {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	data, plain := s.Data, true
	i++
	for {
		for i+8 <= len(data) {
			w := binary.LittleEndian.Uint64(data[i:])
			quote := w ^ ones*'"'
			slash := w ^ ones*'\\'
			// In each term the lowest bit set marks the first byte of its kind; bits
			// above it can be false alarms.
			hit := ((quote-ones)&^quote | (slash-ones)&^slash | (w-ones*0x20)&^w) & highs
			if hit != 0 {
				i += bits.TrailingZeros64(hit) / 8
				break
			}
			i += 8
		}
		if i >= len(data) {
			return s.Fail(i, "the end of a string"), false
		}
		switch c := data[i]; {
		case c == '"':
			return i + 1, plain
		case c == '\\':
			plain = false
			n := escapeLen(data[i:])
			if n == 0 {
				return s.Fail(i, "an escape sequence"), false
			}
			i += n
		case c < 0x20:
			return s.Fail(i, "no control character in a string"), false
		default:
			i++ // only in the last eight bytes of the file
		}
	}
}

// escapeLen returns the length of the escape sequence that b starts with, 0 if it is
// none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f') {
				return 0
			}
		}
		return 6
	}
	return 0
}

// PlainText is what stands between the quotes of a string that has no escapes, and is
// UTF-8; ok is false for everything else that the scanner accepts.
func PlainText(raw []byte) (text []byte, ok bool) {
	if raw[0] != '"' {
		return nil, false
	}
	text = raw[1 : len(raw)-1]
	return text, bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text)
}
