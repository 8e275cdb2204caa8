package catalog

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
)

// What the scanner says about a file must be what encoding/json says about it, since that
// is what decodes the records.
type idAndNames struct {
	ID    string   `json:"id"`
	Names []string `json:"names"`
}

func compareWithJSON(t *testing.T, data []byte) {
	elements, fault := scan(data)
	if fault != nil {
		if fault.Offset < 0 || fault.Offset > len(data) {
			t.Fatalf("fault at %d of %d bytes", fault.Offset, len(data))
		}
		if err := damaged("f", data, fault); !errors.Is(err, errdefs.ErrCorrupt) {
			t.Fatal(err)
		}
		return
	}
	if len(data) == 0 {
		return
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(data, &raws); err != nil {
		t.Fatalf("scan accepts %q, encoding/json says %v", data, err)
	}
	if len(raws) != len(elements) {
		t.Fatalf("%q: %d records, encoding/json finds %d", data, len(elements), len(raws))
	}
	for i, e := range elements {
		if string(raws[i]) != string(e.raw) {
			t.Fatalf("record %d of %q is %q, encoding/json says %q", i, data, e.raw, raws[i])
		}
		var want idAndNames
		if err := json.Unmarshal(raws[i], &want); err != nil {
			continue // the names are not strings: found when they are decoded
		}
		if want.ID != e.id {
			t.Fatalf("record %q has ID %q, encoding/json says %q", e.raw, e.id, want.ID)
		}
		names, err := e.nameList()
		if err != nil {
			t.Fatalf("record %q: names: %v", e.raw, err)
		}
		if len(names)+len(want.Names) > 0 && !reflect.DeepEqual(names, want.Names) {
			t.Fatalf("record %q has names %q, encoding/json says %q", e.raw, names, want.Names)
		}
	}
}

var files = []string{
	``, `[]`, ` [ ] `, `null`, `[{}]`, `[{"id":"a"}]`, `[{"id":"a"},{"id":"b","names":["x","y"]}]`,
	"[\n  {\n    \"id\" : \"a\" ,\t\"names\" : null\r\n  } ,\n  { }\n]\n",
	`[{"ID":"a","Names":["x"]}]`, `[{"name\u017f":["x"],"\u0069d":"\u0061\ud83d\ude00"}]`, "[{\"name\u017f\":[\"x\"]}]",
	`[{"id":"a","id":"b","iD":null}]`, `[{"id":"ä\"<>&"}]`, "[{\"id\":\"\xff\"}]", `[{"id":""}]`,
	`[{"id":"a","n":[0,-0,1,-12.5e+3,0.1E-7,true,false,null,"",{"x":[{}]}]}]`,
	`[{"names":["a"],"names":[]}]`, `[{"names":["a"],"names":null}]`, `[{"names":5,"id":"a"}]`,
	`[{"id":5}]`, `[{"id":{}}]`, `[null]`, `[1]`, `[[]]`, `{}`, `"x"`, `[`, `[{`, `[{"id"`, `[{"id":`, `[{"id":"a`,
	`[{"id":"a"`, `[{"id":"a"}`,
	`[{"id":"a"},]`, `[,{"id":"a"}]`, `[{"id":"a",}]`, `[{"id":"a"} {"id":"b"}]`, `[{"id":"a"}]x`, `[{"id":"a"}][]`,
	"[{\"id\":\"a\nb\"}]", "[{\"id\":\"a\x00\"}]", `[{"id":"\x"}]`, `[{"id":"\u12"}]`, `[{"id":"\u12g4"}]`,
	`[{id:"a"}]`,
	`[{"a":01}]`, `[{"a":-}]`, `[{"a":1.}]`, `[{"a":.5}]`, `[{"a":1e}]`, `[{"a":+1}]`, `[{"a":tru}]`, `[{"a":nul}]`,
	`[{"a":NaN}]`,
	"\xef\xbb\xbf[]", strings.Repeat("\x00", 64), `[{"a":` + strings.Repeat("[", 2000), `[{"a":` +
		strings.Repeat(`{"a":`, 2000),
	`[{"a":` + strings.Repeat("[", 990) + strings.Repeat("]", 990) + `}]`,
}

func TestScanAgreesWithEncodingJSON(t *testing.T) {
	for _, data := range files {
		compareWithJSON(t, []byte(data))
		_, fault := scan([]byte(data))
		var records []map[string]any
		err := json.Unmarshal([]byte(data), &records)
		strict := err != nil || strings.Contains(data, `[null]`) || strings.Contains(data, `"id":5`) ||
			strings.Contains(data, `"id":{`)
		if data != "" && (fault != nil) != strict {
			t.Errorf("%.80q: fault %v, encoding/json %v", data, fault, err)
		}
	}
}

// Nothing but a whole file passes: every proper prefix of a file with records has a
// fault, and exactly at its end.
func TestScanOfTruncatedFile(t *testing.T) {
	whole := `[{"id":"a\u0041","names":["x"],"n":[1,-2.5e3,true,null],"o":{"k":"v"}},{"id":"b"}]`
	for n := 1; n < len(whole); n++ {
		_, fault := scan([]byte(whole[:n]))
		if fault == nil {
			t.Fatalf("%q passes", whole[:n])
		}
		if !fault.EOF && !strings.HasPrefix(whole[fault.Offset:], `\`) {
			t.Errorf("%q: fault %+v is not at the end", whole[:n], fault)
		}
	}
}

// Every single byte changed: either it is still the JSON that encoding/json sees, or it
// is refused.
func TestScanOfFlippedBytes(t *testing.T) {
	whole := []byte(`[{"id":"a","names":["x"],"n":[1,-2.5e3,true]},{"id":"b"}]`)
	for i := range whole {
		for _, c := range []byte{0, ' ', '"', '\\', '{', '}', '[', ']', ',', ':', '0', 'a', 0x1f, 0x80, 0xff} {
			data := append([]byte(nil), whole...)
			data[i] = c
			compareWithJSON(t, data)
			_, fault := scan(data)
			if fault != nil && json.Unmarshal(data, new([]idAndNames)) == nil {
				t.Errorf("%q: refused (%+v), encoding/json accepts", data, fault)
			}
		}
	}
}

func FuzzRecords(f *testing.F) {
	for _, data := range files {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		compareWithJSON(t, data)
		// And a record that is written back keeps what its type does not know.
		elements, fault := scan(data)
		if fault != nil {
			return
		}
		c := New(Schema[idAndNames]{}, "")
		for i := range elements {
			var r idAndNames
			if json.Unmarshal(elements[i].raw, &r) != nil {
				continue
			}
			e, err := c.encode(&r, &elements[i])
			if err != nil {
				t.Fatalf("%q: %v", elements[i].raw, err)
			}
			var before, after map[string]json.RawMessage
			if err := json.Unmarshal(elements[i].raw, &before); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(e.raw, &after); err != nil {
				t.Fatalf("%q became %q: %v", elements[i].raw, e.raw, err)
			}
			for name, value := range before {
				if !isKnown(name, c.decode.known) && string(after[name]) != string(value) {
					t.Fatalf("%q became %q: member %q", elements[i].raw, e.raw, name)
				}
			}
		}
	})
}
