package catalog

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/jsonscan"
)

type kind int

// everyKind has a field of each kind that records have.
type everyKind struct {
	ID       string            `json:"id"`
	Names    []string          `json:"names,omitempty"`
	Size     int64             `json:"diff-size,omitempty"`
	Kind     kind              `json:"kind,omitempty"`
	Small    int8              `json:"small,omitempty"`
	Created  time.Time         `json:"created"`
	IDs      []uint32          `json:"uidset,omitempty"`
	Flags    map[string]any    `json:"flags,omitempty"`
	Maps     []struct{ A int } `json:"uidmap,omitempty"`
	Sizes    map[string]int64  `json:"sizes,omitempty"`
	Untagged string
	Ignored  string `json:"-"`
}

var recordsToDecode = []string{
	`{}`,
	`{"id":"a","names":["x","y"],"diff-size":-1,"kind":3,"created":"2026-01-02T03:04:05.123456789Z","uidset":[0,1,` +
		`4294967295]}`,
	`{"flags":{"incomplete":true,"n":1e3},"uidmap":[{"A":1}],"sizes":{"manifest":5},"future":[{}],"Untagged":"u",` +
		`"untagged":"v","Ignored":"i"}`,
	`{"id":"\u0061\n","names":["\u0062"],"ID":"second"}`, `{"id":"a","id":"b"}`, `{"ID":"a"}`, `{"name\u017f":["x"]}`,
	`{"nameſ":["x"]}`,
	`{"id":null,"names":null,"diff-size":null,"created":null,"uidset":null,"flags":null}`, `{"names":[],"uidset":[ ]}`,
	`{"names":[ "a" , "b" ],"uidset":[1 ,2]}`,
	`{"names":["a",null]}`, `{"uidset":[1,null]}`, `{"names":["a"],"names":["b"]}`, `{"names":"a"}`, `{"names":[1]}`,
	`{"id":1}`, `{"id":{}}`,
	`{"diff-size":9223372036854775807}`, `{"diff-size":9223372036854775808}`, `{"diff-size":-9223372036854775808}`,
	`{"diff-size":1.0}`, `{"diff-size":1e2}`,
	`{"diff-size":-0}`, `{"diff-size":"1"}`, `{"small":127}`, `{"small":128}`, `{"kind":2147483648}`, `{"uidset":[-1]}`,
	`{"uidset":[4294967296]}`, `{"uidset":[1.5]}`,
	`{"created":"yesterday"}`, `{"created":5}`, `{"created":"2026-01-02T03:04:05+01:30"}`,
	`{"created":"2026-01-02t03:04:05z"}`, "{\"id\":\"\xff\"}", "{\"names\":[\"\xff\"]}",
	`{"flags":{"a":{"b":[1,"x",null]}},"flags":{"c":1}}`, `{"":"x"}`,
}

func compareDecoded(t *testing.T, raw []byte) {
	s := jsonscan.Scanner{Data: raw}
	if len(raw) == 0 || raw[0] != '{' || s.Members(0, 2, nil) != len(raw) {
		return // not a record
	}
	var got, want everyKind
	gotErr, wantErr := newDecoder(reflect.TypeFor[everyKind]()).decode(raw, &got), json.Unmarshal(raw, &want)
	if (gotErr == nil) != (wantErr == nil) {
		t.Fatalf("%s: %v, encoding/json says %v", raw, gotErr, wantErr)
	}
	if gotErr == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %#v\nwant %#v", raw, got, want)
	}
}

func TestDecodeAgreesWithEncodingJSON(t *testing.T) {
	for _, raw := range recordsToDecode {
		compareDecoded(t, []byte(raw))
	}
}

func FuzzDecode(f *testing.F) {
	for _, raw := range recordsToDecode {
		f.Add([]byte(raw))
	}
	f.Fuzz(compareDecoded)
}
