package hashset

import (
	"testing"
)

func TestHashSet(t *testing.T) {
	s := New()
	for i := range uint64(10000) {
		if s.Has(i*i*7919) && i > 0 || !s.Add(i*i*7919) && i > 0 {
			t.Fatalf("%d was in before", i)
		}
	}
	for i := range uint64(10000) {
		if !s.Has(i*i*7919) || s.Add(i*i*7919) {
			t.Fatalf("%d is not in", i)
		}
	}
}
