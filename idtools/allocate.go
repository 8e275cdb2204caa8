package idtools

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/shalestore/shale/errdefs"
)

// MaxMaps is how many ranges the kernel takes for one kind of ID (since Linux 4.15;
// user_namespaces(7)).
const MaxMaps = 340

// Allocate maps a container's IDs from 0 on, size of them, to IDs of the host: each
// additional map as it is, and the rest to the lowest of the available IDs that neither
// the maps in use nor the additional ones have. Too few of them are errdefs.ErrInUse,
// maps that contradict each other errdefs.ErrInvalid.
func Allocate(available []Range, inUse []Map, size int, additional []Map) ([]Map, error) {
	if err := ValidateMaps(additional); err != nil {
		return nil, err
	}
	var free, taken, given []span
	for _, r := range available {
		free = append(free, span{int(r.Start), int(r.Start) + int(r.Size)})
	}
	for _, m := range inUse {
		taken = append(taken, span{m.HostID, m.HostID + m.Size})
	}
	for _, m := range additional {
		taken = append(taken, span{m.HostID, m.HostID + m.Size})
		given = append(given, span{m.ContainerID, m.ContainerID + m.Size})
	}
	free = without(free, taken)
	var maps []Map
	for _, want := range without([]span{{0, size}}, given) {
		for want.start < want.end {
			if len(free) == 0 {
				return nil,
					fmt.Errorf(
						"%d IDs for a container: %w: the available ranges have too few that no other container uses",
						size, errdefs.ErrInUse)
			}
			n := min(want.end-want.start, free[0].end-free[0].start)
			maps = append(maps, Map{ContainerID: want.start, HostID: free[0].start, Size: n})
			want.start += n
			if free[0].start += n; free[0].start == free[0].end {
				free = free[1:]
			}
		}
	}
	maps = append(maps, additional...)
	if len(maps) > MaxMaps {
		return nil, fmt.Errorf("%d IDs for a container: %w: they are in more than %d pieces", size, errdefs.ErrInUse,
			MaxMaps)
	}
	return maps, ValidateMaps(maps)
}

// Overlap reports whether two lists of maps have an ID of the host in common.
func Overlap(a, b []Map) bool {
	return slices.ContainsFunc(a, func(x Map) bool {
		return slices.ContainsFunc(b, func(y Map) bool {
			return x.HostID < y.HostID+y.Size && y.HostID < x.HostID+
				x.Size
		})
	})
}

// span is the IDs from start up to, and without, end.
type span struct{ start, end int }

// without is what is left of the spans, in ascending order and each ID once.
func without(spans, minus []span) []span {
	byStart := func(a, b span) int { return cmp.Compare(a.start, b.start) }
	spans, minus = slices.SortedFunc(slices.Values(spans), byStart), slices.SortedFunc(slices.Values(minus), byStart)
	var left []span
	done := 0 // everything below is decided
	for _, s := range spans {
		s.start = max(s.start, done)
		for _, m := range minus {
			if m.end <= s.start || m.start >= s.end {
				continue
			}
			if m.start > s.start {
				left = append(left, span{s.start, m.start})
			}
			s.start = m.end
		}
		if s.start < s.end {
			left = append(left, s)
		}
		done = max(done, s.start, s.end)
	}
	return left
}
