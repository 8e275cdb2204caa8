package catalog

import (
	"encoding/binary"
	"math/bits"
)

// scanner checks the grammar of JSON without building anything. Its methods take the
// position where something should start and return the one behind it, or -1 once there is
// a fault; the position stays in a register that way, and that is half the speed.
type scanner struct {
	data  []byte
	fault *fault // the first one
}

// fault is a place where the grammar breaks.
type fault struct {
	offset int
	want   string
	eof    bool
}

func (s *scanner) fail(i int, want string) int {
	s.fault = &fault{offset: i, want: want, eof: i >= len(s.data)}
	return -1
}

// at returns the byte at i, or 0, which is no token, at the end.
func (s *scanner) at(i int) byte {
	if i < len(s.data) {
		return s.data[i]
	}
	return 0
}

// space skips white space. Programs write none, so the usual case has to be quick.
func (s *scanner) space(i int) int {
	if i < len(s.data) && s.data[i] > ' ' {
		return i
	}
	return s.moreSpace(i)
}

func (s *scanner) moreSpace(i int) int {
	for i < len(s.data) {
		switch s.data[i] {
		case ' ', '\t', '\r', '\n':
			i++
		default:
			return i
		}
	}
	return i
}

// end makes sure that nothing but space follows.
func (s *scanner) end(i int) int {
	if i = s.space(i); i < len(s.data) {
		return s.fail(i, "nothing after the array")
	}
	return i
}

func (s *scanner) value(i, depth int) int {
	switch c := s.at(i); c {
	case '"':
		i, _ = s.str(i)
		return i
	case '{':
		return s.members(i, depth+1, nil)
	case '[':
		return s.array(i, depth+1, s.value)
	case 't':
		return s.literal(i, "true")
	case 'f':
		return s.literal(i, "false")
	case 'n':
		return s.literal(i, "null")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return s.number(i)
		}
		return s.fail(i, "a value")
	}
}

// members scans an object and calls visit, unless that is nil, for each member with the
// positions of its name, quotes included, and of its value. A visit that has called fail
// ends the scan by returning false.
func (s *scanner) members(i, depth int, visit func(name, nameEnd int, plain bool, value, valueEnd int) bool) int {
	if depth > maxDepth {
		return s.fail(i, "less nesting")
	}
	if i = s.space(i + 1); s.at(i) == '}' {
		return i + 1
	}
	for {
		if s.at(i) != '"' {
			return s.fail(i, "a member's name in quotes")
		}
		keyEnd, plain := s.str(i)
		if keyEnd < 0 {
			return -1
		}
		start := s.space(keyEnd)
		if s.at(start) != ':' {
			return s.fail(start, "a colon")
		}
		start = s.space(start + 1)
		end := s.value(start, depth)
		if end < 0 {
			return -1
		}
		if visit != nil && !visit(i, keyEnd, plain, start, end) {
			return -1
		}
		switch i = s.space(end); s.at(i) {
		case ',':
			i = s.space(i + 1)
		case '}':
			return i + 1
		default:
			return s.fail(i, "a comma or the end of the object")
		}
	}
}

// array scans an array and each of its elements by element, which is told the depth.
func (s *scanner) array(i, depth int, element func(i, depth int) int) int {
	if depth > maxDepth {
		return s.fail(i, "less nesting")
	}
	if i = s.space(i + 1); s.at(i) == ']' {
		return i + 1
	}
	for {
		if i = element(i, depth); i < 0 {
			return -1
		}
		switch i = s.space(i); s.at(i) {
		case ',':
			i = s.space(i + 1)
		case ']':
			return i + 1
		default:
			return s.fail(i, "a comma or the end of the array")
		}
	}
}

func (s *scanner) literal(i int, word string) int {
	for k := range len(word) {
		if s.at(i) != word[k] {
			return s.fail(i, "the word "+word)
		}
		i++
	}
	return i
}

// number scans -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (s *scanner) number(i int) int {
	if s.at(i) == '-' {
		i++
	}
	if s.at(i) == '0' {
		i++
	} else if i = s.digits(i); i < 0 {
		return -1
	}
	if s.at(i) == '.' {
		if i = s.digits(i + 1); i < 0 {
			return -1
		}
	}
	if s.at(i)|0x20 == 'e' {
		i++
		if c := s.at(i); c == '+' || c == '-' {
			i++
		}
		return s.digits(i)
	}
	return i
}

func (s *scanner) digits(i int) int {
	start := i
	for i < len(s.data) && s.data[i]-'0' <= 9 {
		i++
	}
	if i == start {
		return s.fail(i, "a digit")
	}
	return i
}

// str scans a string; plain says that it has no escapes. Most of a file is inside
// strings, so this looks at eight bytes at a time for the three things that matter there:
// a quote, a backslash, a control character.
func (s *scanner) str(i int) (end int, plain bool) {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	data, plain := s.data, true
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
			return s.fail(i, "the end of a string"), false
		}
		switch c := data[i]; {
		case c == '"':
			return i + 1, plain
		case c == '\\':
			plain = false
			n := escapeLen(data[i:])
			if n == 0 {
				return s.fail(i, "an escape sequence"), false
			}
			i += n
		case c < 0x20:
			return s.fail(i, "no control character in a string"), false
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
