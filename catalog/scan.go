package catalog

import (
	"encoding/json"
	"strings"
	"unsafe"
)

// element is a record as it stands in its file.
type element struct {
	raw   []byte // the object, from brace to brace
	id    string // decoded
	names []byte // the value of "names", nil without
}

// scan finds the records of a file in one pass. It accepts exactly what encoding/json accepts as an array of objects
// (RFC 8259, any bytes in strings), except for its own limit of nesting, so a file that passes here is safe to cut at
// the places found.
func scan(data []byte) ([]element, *fault) {
	if len(data) == 0 {
		return nil, nil
	}
	s := scanner{data: data}
	s.space()
	if s.pos < len(data) && data[s.pos] == 'n' { // how Go writes an array that it never made
		if err := s.literal("null"); err != nil {
			return nil, err
		}
		return nil, s.end()
	}
	if err := s.expect('[', "an array of records"); err != nil {
		return nil, err
	}
	s.depth = 1
	elements := make([]element, 0, 1+len(data)/512)
	s.space()
	if s.peek() == ']' {
		s.pos++
		return elements, s.end()
	}
	for {
		var e element
		if err := s.record(&e); err != nil {
			return nil, err
		}
		elements = append(elements, e)
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.space()
		case ']':
			s.pos++
			return elements, s.end()
		default:
			return nil, s.fault("a comma or the end of the array")
		}
	}
}

// record scans one object of the array and takes down its ID and its names.
func (s *scanner) record(e *element) *fault {
	start := s.pos
	if s.peek() != '{' {
		return s.fault("a record, which starts with a brace")
	}
	err := s.members(func(key []byte, plain bool) *fault {
		if !plain {
			key = []byte(unquote(key))
		}
		m := memberOf(key)
		valueAt := s.pos
		if err := s.value(); err != nil {
			return err
		}
		value := s.data[valueAt:s.pos]
		switch m {
		case memberID:
			return s.takeID(e, value, valueAt)
		case memberNames:
			e.names = value
		}
		return nil
	})
	e.raw = s.data[start:s.pos:s.pos]
	return err
}

func (s *scanner) takeID(e *element, value []byte, at int) *fault {
	switch {
	case value[0] == 'n': // null leaves a field of a struct as it is
	case value[0] != '"':
		return s.faultAt(at, "a string as the ID")
	case !isPlain(value[1 : len(value)-1]):
		e.id = unquote(value)
	default:
		// Nothing ever writes to a file's bytes once they are read, so thousands of IDs need not be copied.
		e.id = unsafe.String(&value[1], len(value)-2)
	}
	return nil
}

type member int

const (
	memberOther member = iota
	memberID
	memberNames
)

// memberOf recognises the members that matter. Letter case does not, as with encoding/json, which folds by Unicode: the only other letter
// that folds to one of these is U+017F, a long s.
func memberOf(key []byte) member {
	switch len(key) {
	case 2:
		if key[0]|0x20 == 'i' && key[1]|0x20 == 'd' {
			return memberID
		}
	case 5, 6:
		if strings.EqualFold(string(key), "names") {
			return memberNames
		}
	}
	return memberOther
}

// unquote decodes a JSON string that the scanner has accepted.
func unquote(quoted []byte) string {
	var s string
	json.Unmarshal(quoted, &s) // can't fail: it is a valid string
	return s
}

// isPlain reports whether a string's bytes are what they mean: at least one, all ASCII, no escapes.
func isPlain(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 || c == '\\' {
			return false
		}
	}
	return len(b) > 0
}
