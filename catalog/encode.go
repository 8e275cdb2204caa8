package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/shalestore/shale/errdefs"
)

// memberNamesOf returns the names of the JSON members of a struct type. Fields of other
// types have none.
func memberNamesOf(t reflect.Type) []string {
	var names []string
	if t.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		tag, tagged := f.Tag.Lookup("json")
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-" || !f.IsExported():
		case f.Anonymous && name == "": // its fields are visible themselves
		case tagged && name != "":
			names = append(names, name)
		default:
			names = append(names, f.Name)
		}
	}
	return names
}

// encode makes the element of a record: the members R knows, in its order and as
// encoding/json writes them, and behind them the members of before, the record's former
// element, that R does not know. before may be nil.
func (c *Catalog[R]) encode(r *R, before *element) (*element, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errdefs.ErrInvalid, err)
	}
	if before != nil {
		raw = appendUnknown(raw, before.raw, c.decode.known)
	}
	array := make([]byte, 0, len(raw)+2)
	array = append(append(append(array, '['), raw...), ']')
	elements, fault := scan(array) // finds the ID and the names
	if fault != nil || len(elements) != 1 {
		return nil, fmt.Errorf("%w: not encoded as an object", errdefs.ErrInvalid)
	}
	return &elements[0], nil
}

// appendUnknown adds the members of the object before that are not known to the object
// raw.
func appendUnknown(raw, before []byte, known []string) []byte {
	s := scanner{data: before}
	s.members(0, 1, func(name, nameEnd int, plain bool, value, valueEnd int) bool {
		if isKnown(unquote(before[name:nameEnd]), known) {
			return true
		}
		raw = bytes.TrimSuffix(raw, []byte{'}'})
		if len(raw) > 1 {
			raw = append(raw, ',')
		}
		raw = append(append(raw, before[name:nameEnd]...), ':')
		raw = append(append(raw, before[value:valueEnd]...), '}')
		return true
	})
	return raw
}

func isKnown(name string, known []string) bool {
	for _, k := range known {
		if strings.EqualFold(name, k) {
			return true
		}
	}
	return false
}
