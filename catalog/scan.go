package catalog

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// element is a record as it stands in its file.
type element struct {
	raw   []byte // the object, from brace to brace
	id    string // decoded
	names []byte // the value of "names", nil without
	known uint32 // atomic: what remember has found out about raw
}

// scan finds the records of a file in one pass. It accepts exactly what encoding/json
// accepts as an array of objects (RFC 8259, any bytes in strings), except for its own
// limit of nesting, so a file that passes here is safe to cut at the places found.
func scan(data []byte) ([]element, *fault) {
	if len(data) == 0 {
		return nil, nil
	}
	s := scanner{data: data}
	elements, i := s.records()
	if i >= 0 {
		s.end(i)
	}
	return elements, s.fault
}

// records scans the array.
func (s *scanner) records() ([]element, int) {
	i := s.space(0)
	if s.at(i) == 'n' { // how Go writes an array that it never made
		return nil, s.literal(i, "null")
	}
	if s.at(i) != '[' {
		return nil, s.fail(i, "an array of records")
	}
	elements := make([]element, 0, 1+len(s.data)/400)
	if i = s.space(i + 1); s.at(i) == ']' {
		return elements, i + 1
	}
	for {
		elements = append(elements, element{})
		if i = s.record(i, &elements[len(elements)-1]); i < 0 {
			return nil, -1
		}
		switch i = s.space(i); s.at(i) {
		case ',':
			i = s.space(i + 1)
		case ']':
			return elements, i + 1
		default:
			return nil, s.fail(i, "a comma or the end of the array")
		}
	}
}

// record scans one object of the array and takes down its ID and its names.
func (s *scanner) record(i int, e *element) int {
	if s.at(i) != '{' {
		return s.fail(i, "a record, which starts with a brace")
	}
	end := s.members(i, 2, func(name, nameEnd int, plain bool, value, valueEnd int) bool {
		switch s.memberAt(name, nameEnd, plain) {
		case memberID:
			return s.takeID(e, value, valueEnd)
		case memberNames:
			e.names = s.data[value:valueEnd]
		}
		return true
	})
	if end >= 0 {
		e.raw = s.data[i:end:end]
	}
	return end
}

func (s *scanner) takeID(e *element, i, end int) bool {
	if s.data[i] == 'n' { // null leaves a field of a struct as it is
		return true
	}
	if s.data[i] != '"' {
		s.fail(i, "a string as the ID")
		return false
	}
	if text := s.data[i+1 : end-1]; len(text) > 0 && bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) {
		// Nothing ever writes to a file's bytes once they are read, so thousands of IDs
		// need not be copied.
		e.id = unsafe.String(&text[0], len(text))
	} else {
		e.id = unquote(s.data[i:end])
	}
	return true
}

type member int

const (
	memberOther member = iota
	memberID
	memberNames
)

// memberAt recognises the members that matter. Letter case does not, as with
// encoding/json, which folds by Unicode: the only other letter that folds to one of these
// is U+017F, a long s.
func (s *scanner) memberAt(i, end int, plain bool) member {
	key := s.data[i+1 : end-1]
	if !plain {
		key = []byte(unquote(s.data[i:end]))
	}
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

// unquote decodes a string that the scanner has accepted.
func unquote(quoted []byte) string {
	var s string
	json.Unmarshal(quoted, &s) // can't fail: it is a valid string
	return s
}
