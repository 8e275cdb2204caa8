package idtools_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
)

func TestAllocate(t *testing.T) {
	type ranges = []idtools.Range
	type maps = []idtools.Map
	for name, c := range map[string]struct {
		available         ranges
		inUse, additional maps
		size              int
		want              maps
		class             error
	}{
		"the first":              {available: ranges{{1000, 100}}, size: 10, want: maps{{0, 1000, 10}}},
		"the lowest range first": {available: ranges{{5000, 100}, {1000, 100}}, size: 10, want: maps{{0, 1000, 10}}},
		"behind another": {available: ranges{{1000, 100}}, inUse: maps{{0, 1000, 10}}, size: 10,
			want: maps{{0, 1010, 10}}},
		"between two": {available: ranges{{1000, 100}}, inUse: maps{{0, 1000, 10}, {0, 1020, 10}}, size: 10,
			want: maps{{0, 1010, 10}}},
		"in pieces": {available: ranges{{1000, 100}}, inUse: maps{{0, 1005, 5}, {0, 1012, 8}}, size: 10,
			want: maps{{0, 1000, 5}, {5, 1010, 2}, {7, 1020, 3}}},
		"over two ranges": {available: ranges{{1000, 5}, {2000, 100}}, size: 10,
			want: maps{{0, 1000, 5}, {5, 2000, 5}}},
		"ranges that overlap": {available: ranges{{1000, 10}, {1005, 10}}, size: 15,
			want: maps{{0, 1000, 10}, {10, 1010, 5}}},
		"partly in use": {available: ranges{{1000, 100}}, inUse: maps{{0, 900, 150}}, size: 10,
			want: maps{{0, 1050, 10}}},
		"none left": {available: ranges{{1000, 10}}, inUse: maps{{0, 1000, 5}}, size: 10,
			class: errdefs.ErrInUse},
		"none at all": {size: 1, class: errdefs.ErrInUse},
		"an additional map": {available: ranges{{1000, 100}}, additional: maps{{3, 0, 1}}, size: 10,
			want: maps{{0, 1000, 3}, {4, 1003, 6}, {3, 0, 1}}},
		"additional from there": {available: ranges{{1000, 100}}, additional: maps{{0, 1000, 2}}, size: 4,
			want: maps{{2, 1002, 2}, {0, 1000, 2}}},
		"contradicting additions": {available: ranges{{1000, 100}}, additional: maps{{0, 1, 2}, {1, 5, 2}}, size: 4,
			class: errdefs.ErrInvalid},
	} {
		got, err := idtools.Allocate(c.available, c.inUse, c.size, c.additional)
		if c.class != nil {
			if !errors.Is(err, c.class) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v (%v), want %v", name, got, err, c.want)
		}
		if idtools.Overlap(got, c.inUse) {
			t.Errorf("%s: %v overlaps %v", name, got, c.inUse)
		}
	}
}
