package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/jsonscan"
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
		if raw, err = c.keepUnchanged(raw, before.raw); err != nil {
			return nil, err
		}
	}
	array := make([]byte, 0, len(raw)+2)
	array = append(append(append(array, '['), raw...), ']')
	elements, fault := scan(array) // finds the ID and the names
	if fault != nil || len(elements) != 1 {
		return nil, fmt.Errorf("%w: not encoded as an object", errdefs.ErrInvalid)
	}
	return &elements[0], nil
}

// keepUnchanged puts the bytes of the former record in the place of what is encoded for
// the members that nobody has changed, and adds those that R doesn't know. Not every
// value comes back from a struct as it was: a number of a map beyond 2^53, a string that
// isn't UTF-8, a time with another spelling. What such a value was when it was read and
// encoded again tells whether it is still the same.
func (c *Catalog[R]) keepUnchanged(raw, before []byte) ([]byte, error) {
	former := new(R)
	if err := c.decode.decode(before, former); err != nil {
		return nil, fmt.Errorf("%w: %w", errdefs.ErrCorrupt, err)
	}
	again, err := json.Marshal(former)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errdefs.ErrInvalid, err)
	}
	then, spelled := membersOf(again), membersOf(before)
	kept := []byte{'{'}
	s := jsonscan.Scanner{Data: raw}
	s.Members(0, 1, func(name, nameEnd int, plain bool, value, valueEnd int) bool {
		key, next := unquote(raw[name:nameEnd]), raw[value:valueEnd]
		if old := spelled[key]; old != nil && bytes.Equal(next, then[key]) {
			next = old
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(append(kept, raw[name:nameEnd]...), ':')
		kept = append(kept, next...)
		return true
	})
	now := membersOf(raw)
	return appendMembers(append(kept, '}'), before, func(key string) bool {
		// Or it is known, and left out as it would have been before.
		return !isKnown(key, c.decode.known) ||
			slices.Contains(c.decode.known, key) && spelled[key] != nil && then[key] == nil && now[key] == nil
	}), nil
}

// membersOf returns the values of an object's members; nil for one that comes twice.
func membersOf(raw []byte) map[string][]byte {
	all := map[string][]byte{}
	s := jsonscan.Scanner{Data: raw}
	s.Members(0, 1, func(name, nameEnd int, plain bool, value, valueEnd int) bool {
		key := unquote(raw[name:nameEnd])
		if _, twice := all[key]; twice {
			all[key] = nil
		} else {
			all[key] = raw[value:valueEnd]
		}
		return true
	})
	return all
}

// appendMembers adds the members of the object before that are wanted to the object raw.
func appendMembers(raw, before []byte, wanted func(key string) bool) []byte {
	s := jsonscan.Scanner{Data: before}
	s.Members(0, 1, func(name, nameEnd int, plain bool, value, valueEnd int) bool {
		if !wanted(unquote(before[name:nameEnd])) {
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
