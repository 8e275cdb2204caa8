package catalog

import (
	"bytes"
	"encoding"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/shalestore/shale/internal/jsonscan"
)

// decoder turns records into structs several times faster than encoding/json, by doing
// only what nearly every record needs: exact member names, strings without escapes, whole
// numbers, times. It relies on the scanner having accepted the record. Whatever else
// turns up goes to encoding/json, a field or the whole record, so that there is one
// meaning of a record and not two.
type decoder struct {
	fields map[string]field
	known  []string
}

type field struct {
	number int // in the order of the struct
	index  []int
	set    func(v reflect.Value, raw []byte) bool // false: let encoding/json do it
}

func newDecoder(t reflect.Type) *decoder {
	d := &decoder{fields: map[string]field{}, known: memberNamesOf(t)}
	if t.Kind() != reflect.Struct {
		return d
	}
	for i, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || f.Anonymous || len(f.Index) != 1 || strings.Contains(options, "string") ||
			i >= 64 {
			continue
		}
		d.fields[name] = field{number: i, index: f.Index, set: setterFor(f.Type)}
	}
	return d
}

// decode sets the fields of the struct v points to, which is zero, from a record.
func (d *decoder) decode(raw []byte, v any) error {
	if s := reflect.ValueOf(v).Elem(); s.Kind() == reflect.Struct {
		if d.quick(raw, s) {
			return nil
		}
		s.SetZero()
	}
	return json.Unmarshal(raw, v)
}

// quick decodes a record in which every member is either a field, by its very name and
// only once, or unknown.
func (d *decoder) quick(raw []byte, s reflect.Value) bool {
	var seen uint64
	sc := jsonscan.Scanner{Data: raw}
	end := sc.Members(0, 1, func(name, nameEnd int, plain bool, value, valueEnd int) bool {
		if !plain {
			return false
		}
		f, ok := d.fields[string(raw[name+1:nameEnd-1])]
		if !ok {
			return !isKnown(string(raw[name+1:nameEnd-1]), d.known)
		}
		if seen&(1<<f.number) != 0 {
			return false
		}
		seen |= 1 << f.number
		v := s.FieldByIndex(f.index)
		if f.set != nil && f.set(v, raw[value:valueEnd]) {
			return true
		}
		return json.Unmarshal(raw[value:valueEnd], v.Addr().Interface()) == nil
	})
	return end >= 0
}

// setterFor returns how to set a field of a type from JSON, nil for what encoding/json
// has to do.
func setterFor(t reflect.Type) func(reflect.Value, []byte) bool {
	p := reflect.PointerTo(t)
	switch {
	case t == reflect.TypeFor[time.Time]():
		return setTo(func(raw []byte) (at time.Time, ok bool) {
			ok = at.UnmarshalJSON(raw) == nil
			return at, ok
		})
	case t == reflect.TypeFor[[]string]():
		return setTo(func(raw []byte) ([]string, bool) { return plainArray(raw, plainString) })
	case t == reflect.TypeFor[[]uint32]():
		return setTo(func(raw []byte) ([]uint32, bool) { return plainArray(raw, plainUint32) })
	case p.Implements(reflect.TypeFor[json.Unmarshaler]()), p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return nil
	case t.Kind() == reflect.String:
		return setString
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		return setInt
	}
	return nil
}

// setTo sets a field of type T.
func setTo[T any](decode func([]byte) (T, bool)) func(reflect.Value, []byte) bool {
	return func(v reflect.Value, raw []byte) bool {
		value, ok := decode(raw)
		if ok {
			*v.Addr().Interface().(*T) = value
		}
		return ok
	}
}

func setString(v reflect.Value, raw []byte) bool {
	s, ok := plainString(raw)
	if ok {
		v.SetString(s)
	}
	return ok
}

func setInt(v reflect.Value, raw []byte) bool {
	n, ok := plainInt(raw)
	ok = ok && !v.OverflowInt(n)
	if ok {
		v.SetInt(n)
	}
	return ok
}

// plainString decodes a string that has no escapes.
func plainString(raw []byte) (string, bool) {
	text, ok := jsonscan.PlainText(raw)
	return string(text), ok
}

// plainInt decodes a whole number of up to 18 digits.
func plainInt(raw []byte) (int64, bool) {
	digits := bytes.TrimPrefix(raw, []byte{'-'})
	if len(digits) > 18 || string(raw) == "-0" {
		return 0, false
	}
	var n int64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false // a fraction, an exponent, or no number
		}
		n = n*10 + int64(c-'0')
	}
	if raw[0] == '-' {
		n = -n
	}
	return n, true
}

func plainUint32(raw []byte) (uint32, bool) {
	n, ok := plainInt(raw)
	return uint32(n), ok && n >= 0 && n <= math.MaxUint32
}

// plainArray decodes an array all of whose elements decode by one.
func plainArray[T any](raw []byte, one func([]byte) (T, bool)) ([]T, bool) {
	if raw[0] != '[' {
		return nil, false
	}
	list := []T{}
	sc := jsonscan.Scanner{Data: raw}
	end := sc.Array(0, 1, func(i, depth int) int {
		end := sc.Value(i, depth)
		if end < 0 {
			return -1
		}
		v, ok := one(raw[i:end])
		if !ok {
			return -1
		}
		list = append(list, v)
		return end
	})
	return list, end >= 0
}
