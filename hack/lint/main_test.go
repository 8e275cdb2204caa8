package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestTooLong(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct{ name, source, want string }{
		{"short", "package p\n\n// short\nvar v = 1 // " + long(100) + "\n", "[]"},
		{"a comment of 90", "package p\n\n// " + long(87) + "\n", "[]"},
		{"a comment of 91", "package p\n\n// " + long(88) + "\n", "[{3 91 90}]"},
		{"an indented comment", "package p\n\nfunc f() {\n\t// " + long(84) + "\n}\n", "[{4 91 90}]"},
		{"a block", "package p\n\n/*\n" + long(91) + "\n*/\n", "[{4 91 90}]"},
		{"a comment behind code", "package p\n\nvar v = 1 // " + long(108) + "\n", "[{3 121 120}]"},
		{"code of 121", "package p\n\nvar " + long(113) + " = 1\n", "[{3 121 120}]"},
		{"runes", "package p\n\n// " + strings.Repeat("ü", 87) + "\n", "[]"},
		{"an address", "package p\n\n// https://example.org/" + long(88) + "\n", "[]"},
		{"as it is", "package p\n\n//\t" + long(100) + "\n//    " + long(100) + "\n", "[]"},
		{"a table", "package p\n\n// | a | " + long(88) + " |\n", "[]"},
		{"a string", "package p\n\nvar v = `\n" + long(121) + "\n// " + long(121) + "`\n", "[]"},
		{"a directive", "package p\n\n//go:generate " + long(88) + "\n", "[]"},
	} {
		if got := fmt.Sprint(tooLong([]byte(c.source))); got != c.want {
			t.Errorf("%s: %s, not %s", c.name, got, c.want)
		}
	}
}
