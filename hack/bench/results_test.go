package main

import (
	"math"
	"testing"
)

func TestRatiosAreOfMedians(t *testing.T) {
	r := &results{}
	for _, v := range []float64{1, 100, 2} {
		r.add("apply a.tar", "shale", v)
	}
	for _, v := range []float64{4, 8} {
		r.add("apply a.tar", "storage", v)
	}
	r.add("apply b.tar", "shale", 1)
	r.add("apply b.tar", "storage", 12)
	if got := r.rows[0].ratio("storage"); got != 3 {
		t.Errorf("ratio %v, want 6 / 2", got)
	}
	if got := r.geomean(".tar", "storage"); math.Abs(got-6) > 1e-9 {
		t.Errorf("geometric mean %v, want the root of 3 × 12", got)
	}
	if got := r.rows[0].ratio("tar"); !math.IsNaN(got) {
		t.Errorf("who took no part has the ratio %v", got)
	}
}

func TestSummaryOfStrace(t *testing.T) {
	got, err := parseSummary(`% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600          60        10           openat
 30.00    0.000300         100         3         1 fsync
 10.00    0.000100         100         1           syncfs
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000          71        14         1 total
`)
	if want := (calls{all: 14, syncs: 4}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := parseSummary("strace: attach failed\n"); err == nil {
		t.Error("a summary without calls is no error")
	}
}
