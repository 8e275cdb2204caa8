package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestProgressIsRedrawnAtMostTenTimesASecond(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	line := &progress{mode: progressBar, out: &out, width: 80, verb: "importing", total: 1000, now: func() time.Time { return now },
		began: now}
	for i := range int64(1001) { // two seconds
		line.update(i)
		now = now.Add(2 * time.Millisecond)
	}
	if drawn := strings.Count(out.String(), "\r"); drawn < 19 || drawn > 22 {
		t.Errorf("drawn %d times in two seconds", drawn)
	}
	line.clear()
	if !strings.HasSuffix(out.String(), "\r\x1b[K") {
		t.Errorf("the line is not cleared: %q", out.String()[out.Len()-40:])
	}
	before := out.Len()
	line.clear()
	if out.Len() != before {
		t.Error("a cleared line was cleared again")
	}
}

func TestProgressLineNeverWraps(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	line := &progress{mode: progressBar, out: &out, width: 20, verb: "importing", total: 1e12, now: func() time.Time { return now },
		began: now.Add(-time.Hour)}
	line.update(5e11)
	if text := strings.TrimSuffix(strings.TrimPrefix(out.String(), "\r"), "\x1b[K"); len(text) != 19 {
		t.Errorf("%d characters in 20 columns: %q", len(text), text)
	}
}

func TestNobodyWatches(t *testing.T) {
	var line *progress
	if line.report() != nil {
		t.Error("the store is asked to report to nobody")
	}
	line.update(1)
	line.clear()
}

func TestProgressLine(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		elapsed     time.Duration
		want        string
	}{
		{0, 1000, 0, "importing  0 B of 1.0 kB  0%  0 B/s"},
		{50e6, 200e6, 2 * time.Second, "importing  50.0 MB of 200.0 MB  25%  25.0 MB/s  6s left"},
		{200e6, 200e6, 8 * time.Second, "importing  200.0 MB of 200.0 MB  100%  25.0 MB/s"},
		{5e9, 0, 10 * time.Second, "importing  5.0 GB  500.0 MB/s  10s"},
	} {
		if got := progressLine("importing", c.done, c.total, c.elapsed); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB",
		999_950: "1.0 MB", 87_400_000: "87.4 MB", 1<<63 - 1: "9.2 EB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
