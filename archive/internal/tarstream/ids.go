package tarstream

import (
	"maps"
	"slices"
)

// IDSet collects IDs, most of which come in runs of one.
type IDSet struct {
	last uint32
	ids  map[uint32]struct{}
}

func NewIDSet() IDSet { return IDSet{ids: make(map[uint32]struct{})} }

func (s *IDSet) Add(id uint32) {
	if len(s.ids) == 0 || id != s.last {
		s.ids[id] = struct{}{}
		s.last = id
	}
}

func (s *IDSet) Sorted() []uint32 { return slices.Sorted(maps.Keys(s.ids)) }
