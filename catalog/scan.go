package catalog

import (
	"encoding/json"
	"strings"
	"unsafe"

	"github.com/shalestore/shale/internal/jsonscan"
)

// element is a record as it stands in its file.
type element struct {
	raw   []byte // the object, from brace to brace
	id    string // decoded
	names []byte // the value of "names", nil without
}

// scan finds the records of a file in one pass. It accepts exactly what encoding/json
// accepts as an array of objects (RFC 8259, any bytes in strings), except for its own
// limit of nesting, so a file that passes here is safe to cut at the places found. With a
// fault it returns the records before that.
func scan(data []byte) ([]element, *jsonscan.Fault) {
	if len(data) == 0 {
		return nil, nil
	}
	s := jsonscan.Scanner{Data: data}
	var elements []element
	i := s.Space(0)
	switch s.At(i) {
	case 'n': // how Go writes an array that it never made
		i = s.Literal(i, "null")
	case '[':
		elements = make([]element, 0, 1+len(data)/400)
		i = s.Array(i, 1, func(i, depth int) int {
			elements = append(elements, element{})
			if i = scanRecord(&s, i, depth+1, &elements[len(elements)-1]); i < 0 {
				elements = elements[:len(elements)-1]
			}
			return i
		})
	default:
		i = s.Fail(i, "an array of records")
	}
	if i >= 0 {
		s.End(i, "the array")
	}
	return elements, s.Fault
}

// scanRecord scans one object of the array and takes down its ID and its names.
func scanRecord(s *jsonscan.Scanner, i, depth int, e *element) int {
	if s.At(i) != '{' {
		return s.Fail(i, "a record, which starts with a brace")
	}
	end := s.Members(i, depth, func(name, nameEnd int, plain bool, value, valueEnd int) bool {
		// Letter case doesn't matter, as with encoding/json, which folds by Unicode: the
		// only other letter that folds to one of these is U+017F, a long s.
		key := s.Data[name+1 : nameEnd-1]
		if !plain {
			key = []byte(unquote(s.Data[name:nameEnd]))
		}
		switch {
		case len(key) == 2 && key[0]|0x20 == 'i' && key[1]|0x20 == 'd':
			return takeID(s, e, value, valueEnd)
		case (len(key) == 5 || len(key) == 6) && strings.EqualFold(string(key), "names"):
			e.names = s.Data[value:valueEnd]
		}
		return true
	})
	if end >= 0 {
		e.raw = s.Data[i:end:end]
	}
	return end
}

func takeID(s *jsonscan.Scanner, e *element, i, end int) bool {
	if s.Data[i] == 'n' { // null leaves a field of a struct as it is
		return true
	}
	if s.Data[i] != '"' {
		s.Fail(i, "a string as the ID")
		return false
	}
	if text, plain := jsonscan.PlainText(s.Data[i:end]); plain && len(text) > 0 {
		// Nothing ever writes to a file's bytes once they are read, so thousands of IDs
		// need not be copied.
		e.id = unsafe.String(&text[0], len(text))
	} else {
		e.id = unquote(s.Data[i:end])
	}
	return true
}

// unquote decodes a string that the scanner has accepted.
func unquote(quoted []byte) string {
	var s string
	_ = json.Unmarshal(quoted, &s) // can't fail: it is a valid string
	return s
}
