package catalog

import (
	"encoding/binary"
	"math/bits"
)

// scanner checks the grammar of JSON without building anything.
type scanner struct {
	data  []byte
	pos   int
	depth int
}

// fault is a place where the grammar breaks.
type fault struct {
	offset int
	want   string
	eof    bool
}

func (s *scanner) fault(want string) *fault { return s.faultAt(s.pos, want) }

func (s *scanner) faultAt(pos int, want string) *fault {
	return &fault{offset: pos, want: want, eof: pos >= len(s.data)}
}

// peek returns the next byte, or 0, which is no token, at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) expect(c byte, what string) *fault {
	if s.peek() != c {
		return s.fault(what)
	}
	s.pos++
	return nil
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// end makes sure that nothing but space follows.
func (s *scanner) end() *fault {
	s.space()
	if s.pos < len(s.data) {
		return s.fault("nothing after the array")
	}
	return nil
}

func (s *scanner) value() *fault {
	switch c := s.peek(); c {
	case '"':
		_, err := s.str()
		return err
	case '{':
		return s.members(nil)
	case '[':
		return s.array()
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return s.number()
		}
		return s.fault("a value")
	}
}

// members scans an object. For every member visit is called with the scanner at its value, which it has to scan; key is what
// stands between the quotes if plain, and otherwise the string with its quotes and escapes.
func (s *scanner) members(visit func(key []byte, plain bool) *fault) *fault {
	if err := s.enter(); err != nil {
		return err
	}
	s.space()
	if s.peek() == '}' {
		return s.leave()
	}
	for {
		if s.peek() != '"' {
			return s.fault("a member's name in quotes")
		}
		start := s.pos
		plain, err := s.str()
		if err != nil {
			return err
		}
		end := s.pos
		s.space()
		if err := s.expect(':', "a colon"); err != nil {
			return err
		}
		s.space()
		switch {
		case visit == nil:
			err = s.value()
		case plain:
			err = visit(s.data[start+1:end-1], true)
		default:
			err = visit(s.data[start:end], false)
		}
		if err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.space()
		case '}':
			return s.leave()
		default:
			return s.fault("a comma or the end of the object")
		}
	}
}

func (s *scanner) array() *fault {
	if err := s.enter(); err != nil {
		return err
	}
	s.space()
	if s.peek() == ']' {
		return s.leave()
	}
	for {
		if err := s.value(); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.space()
		case ']':
			return s.leave()
		default:
			return s.fault("a comma or the end of the array")
		}
	}
}

func (s *scanner) enter() *fault {
	if s.depth >= maxDepth {
		return s.fault("less nesting")
	}
	s.depth++
	s.pos++
	return nil
}

func (s *scanner) leave() *fault {
	s.depth--
	s.pos++
	return nil
}

func (s *scanner) literal(word string) *fault {
	for i := range len(word) {
		if s.peek() != word[i] {
			return s.fault("the word " + word)
		}
		s.pos++
	}
	return nil
}

// number scans -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (s *scanner) number() *fault {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if err := s.digits(); err != nil {
		return err
	}
	if s.peek() == '.' {
		s.pos++
		if err := s.digits(); err != nil {
			return err
		}
	}
	if s.peek()|0x20 == 'e' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		return s.digits()
	}
	return nil
}

func (s *scanner) digits() *fault {
	start := s.pos
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.pos++
	}
	if s.pos == start {
		return s.fault("a digit")
	}
	return nil
}

// str scans a string; plain says that it has no escapes. Most of a file is inside strings, so this looks at eight bytes
// at a time for the three things that matter there: a quote, a backslash, a control character.
func (s *scanner) str() (plain bool, _ *fault) {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	data, plain := s.data, true
	i := s.pos + 1
	for {
		for i+8 <= len(data) {
			w := binary.LittleEndian.Uint64(data[i:])
			quote := w ^ ones*'"'
			slash := w ^ ones*'\\'
			// In each term the lowest bit set marks the first byte of its kind; bits above it can be false alarms.
			hit := ((quote-ones)&^quote | (slash-ones)&^slash | (w-ones*0x20)&^w) & highs
			if hit != 0 {
				i += bits.TrailingZeros64(hit) / 8
				break
			}
			i += 8
		}
		if i >= len(data) {
			s.pos = len(data)
			return false, s.fault("the end of a string")
		}
		switch c := data[i]; {
		case c == '"':
			s.pos = i + 1
			return plain, nil
		case c == '\\':
			plain = false
			n := escapeLen(data[i:])
			if n == 0 {
				return false, s.faultAt(i, "an escape sequence")
			}
			i += n
		case c < 0x20:
			return false, s.faultAt(i, "no control character in a string")
		default:
			i++ // only in the last eight bytes of the file
		}
	}
}

// escapeLen returns the length of the escape sequence that b starts with, 0 if it is none.
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
