package jsonscan_test

import (
	"encoding/json"
	"testing"

	"github.com/shalestore/shale/internal/jsonscan"
)

// What the scanner accepts is what encoding/json does.
func FuzzValue(f *testing.F) {
	for _, text := range []string{`{}`, `[ ]`, ` {"a":[1,-2.5e3,"x\u0041",null,true,false]} `, `"`, `"\x"`, `01`, `-`,
		`1.`, `{"a"}`, `{"a":1,}`, `[1,]`, `nul`, "\"\x01\"", "\"\xff\"", `[[[[]]]]`, `{"a":1}x`, ``} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := jsonscan.Scanner{Data: data}
		end := s.Value(s.Space(0), 0)
		if end >= 0 {
			end = s.End(end, "the value")
		}
		if (end >= 0) != (s.Fault == nil) {
			t.Fatalf("%q: ends at %d with the fault %v", data, end, s.Fault)
		}
		if valid := json.Valid(data); valid != (end >= 0) && (s.Fault == nil || s.Fault.Want != "less nesting") {
			t.Fatalf("%q: ends at %d, encoding/json accepts it: %v", data, end, valid)
		}
	})
}

func TestPlainText(t *testing.T) {
	for raw, want := range map[string]string{`"abc"`: "abc", `""`: "", `"ä"`: "ä"} {
		if got, ok := jsonscan.PlainText([]byte(raw)); !ok || string(got) != want {
			t.Errorf("%s: %q, %v", raw, got, ok)
		}
	}
	for _, raw := range []string{`"a\n"`, "\"\xff\"", `1`, `null`, `{}`} {
		if got, ok := jsonscan.PlainText([]byte(raw)); ok {
			t.Errorf("%s is plain text: %q", raw, got)
		}
	}
}
