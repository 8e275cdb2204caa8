package main

import (
	"strings"
	"testing"
)

func TestDrawTree(t *testing.T) {
	var out strings.Builder
	drawTree(&out, []treeNode{
		{"(base)", "a", []string{"name: bottom"}},
		{"a", "b", []string{"name: left", "mount: /here"}},
		{"b", "c", nil},
		{"a", "d", []string{"name: right"}},
		{"d", "e", nil},
		{"gone", "f", nil},
	})
	want := `(base)
└─a
  name: bottom
  ├─b
  │ name: left
  │ mount: /here
  │ └─c
  └─d
    name: right
    └─e
gone
└─f
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestPrintableNames(t *testing.T) {
	for name, want := range map[string]string{
		"example.com/base:1": "example.com/base:1",
		"größe":              "größe",
		"a\x1b[2Jb":          `"a\x1b[2Jb"`,
		"a\tb":               `"a\tb"`,
	} {
		if got := printable(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}
