package naming_test

import (
	"slices"
	"testing"

	"github.com/shalestore/shale/internal/naming"
)

func TestApply(t *testing.T) {
	for _, c := range []struct {
		change      naming.Change
		names, give []string
		want        []string
	}{
		{naming.Set, []string{"a", "b"}, []string{"c", "c"}, []string{"c"}},
		{naming.Set, []string{"a"}, nil, nil},
		{naming.Add, []string{"a", "b"}, []string{"c", "b"}, []string{"c", "b", "a"}},
		{naming.Remove, []string{"a", "b", "c"}, []string{"b", "x"}, []string{"a", "c"}},
		{naming.Remove, []string{"a"}, []string{"a"}, nil},
	} {
		if got := naming.Apply(c.names, c.give, c.change); !slices.Equal(got, c.want) {
			t.Errorf("Apply(%q, %q, %d) = %q, want %q", c.names, c.give, c.change, got, c.want)
		}
	}
}
