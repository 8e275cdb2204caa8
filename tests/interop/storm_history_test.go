package interop

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
)

// storm is the history all workers share. Its clock ticks at every beginning and end of
// an operation.
type storm struct {
	root     harness.Root
	archives []harness.Archive

	mu     sync.Mutex
	clock  int
	layers map[string]*layer // all that were ever asked for
	order  []string
	counts map[string]int

	excuses int // how often the peer needed its own bugs as one
}

// layer is one layer's life. A time of 0 has not come yet.
type layer struct {
	id, parent  string
	digest      string // of an imported layer: it never changes then
	metadata    string // as its maker last set it
	asked, made int    // when its making was asked for and acknowledged
	failed      bool   // it was never made
	children    []string
	deletions   []*attempt
	maker       int
}

type attempt struct {
	begun, ended int
	done         bool // acknowledged, and not refused
}

func (s *storm) tick() int {
	s.clock++
	return s.clock
}

// at runs fn with the history locked.
func (s *storm) at(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// surely says whether the layer was there all the time from begun until now.
func (l *layer) surely(begun int) bool {
	return l.made > 0 && l.made <= begun && !l.maybeDeleted()
}

// maybeDeleted says whether a deletion was carried out or is under way.
func (l *layer) maybeDeleted() bool {
	return slices.ContainsFunc(l.deletions, func(a *attempt) bool { return a.done || a.ended == 0 })
}

// goneBy says whether the layer had been deleted, or never been made, by a time.
func (l *layer) goneBy(begun int) bool {
	return l.failed || slices.ContainsFunc(l.deletions, func(a *attempt) bool {
		return a.done && a.ended > 0 &&
			a.ended <= begun
	})
}

// maybeUsed says whether the layer may have had a child at some time since begun.
func (s *storm) maybeUsed(l *layer, begun int) bool {
	return slices.ContainsFunc(l.children, func(id string) bool { return !s.layers[id].goneBy(begun) })
}

// aftermath is when all is quiet: both tools and the disk agree with the history, and
// everything can be deleted.
func (s *storm) aftermath(t *testing.T, tools []harness.Tool) {
	ctx := t.Context()
	var want []string
	for id, l := range s.layers {
		if l.made > 0 && !l.maybeDeleted() {
			want = append(want, id)
		}
	}
	slices.Sort(want)
	var records [2]string
	for i, tool := range tools {
		listed, err := s.root.Layers(ctx, tool)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range listed {
			got = append(got, l.ID)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s lists %d layers, the history has %d\ngot  %v\nwant %v", tool.Name, len(got), len(want), got,
				want)
		}
		records[i] = s.root.Must(t, tool, "layers", "-j")
	}
	if !sameJSON(records[0], records[1]) {
		t.Errorf("the records differ:\nshale: %s\npeer:  %s", records[0], records[1])
	}
	for i, id := range want {
		l, tool := s.layers[id], tools[i%2]
		if l.digest != "" {
			if got, err := s.root.Digest(ctx, tool, id); err != nil || got != l.digest {
				t.Errorf("%s exports %s as %s, want %s: %v", tool.Name, id, got, l.digest, err)
			}
		}
		if l.metadata != "" {
			if out := s.root.Must(t, tool, "metadata", "-q", id); strings.TrimSpace(out) != l.metadata {
				t.Errorf("%s: the metadata of %s is %q, its maker said %q", tool.Name, id, out, l.metadata)
			}
		}
	}
	if points, err := testutil.MountsBelow(s.root.Graph); err != nil || len(points) > 0 {
		t.Errorf("still mounted: %v, %v", points, err)
	}
	if s.excuses > 0 {
		s.root.Must(t, tools[0], "gc") // the peer left something behind, too
	}
	found, err := s.root.Audit()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range append(found.Broken, found.Stale...) {
		t.Errorf("on disk: %s", line)
	}
	for i := 0; len(want) > 0; i++ {
		want = slices.DeleteFunc(want, func(id string) bool {
			if slices.ContainsFunc(want, func(other string) bool { return s.layers[other].parent == id }) {
				return false
			}
			i++
			s.root.Must(t, tools[i%2], "delete-layer", id)
			return true
		})
	}
	for _, tool := range tools {
		if listed, err := s.root.Layers(ctx, tool); err != nil || len(listed) > 0 {
			t.Errorf("%s: all deleted, yet listed: %v, %v", tool.Name, listed, err)
		}
	}
}

func sameJSON(a, b string) bool {
	va, errA := decode(a)
	vb, errB := decode(b)
	return errA == nil && errB == nil && reflect.DeepEqual(va, vb)
}
