package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestProgressIsRedrawnAtMostTenTimesASecond(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	line := &progress{mode: progressBar, out: &out, width: 80, verb: "importing", total: 1000,
		now:   func() time.Time { return now },
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
	line := &progress{mode: progressBar, out: &out, width: 20, verb: "importing", total: 1e12,
		now:   func() time.Time { return now },
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

// Into a pipe there are lines, the first after a second, also while the work reports
// nothing, and a last one at the end.
func TestProgressInAPipe(t *testing.T) {
	for mode, want := range map[progressMode]string{
		progressAuto: "importing  1.5 kB of 2.0 kB  75%", progressPlain: "importing  1.5 kB of 2.0 kB  75%",
		progressJSON: `{"work":"importing","done":1500,"total":2000,"seconds":`, progressNone: "",
	} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			var stderr safeBuffer
			p := &program{stderr: &stderr, global: &globalFlags{progress: mode}}
			line := p.newProgress("importing", 2000)
			if report := line.report(); report != nil {
				report(1500)
			}
			time.Sleep(firstLine + 300*time.Millisecond)
			during := stderr.String()
			line.clear()
			if lines := strings.Count(stderr.String(), "\n"); !strings.HasPrefix(during, want) ||
				want == "" && lines != 0 || want != "" && lines != 2 {
				t.Errorf("%q, then %q", during, stderr.String())
			}
		})
	}
	var stderr safeBuffer
	p := &program{stderr: &stderr, global: &globalFlags{}}
	line := p.newProgress("short", 0)
	line.update(1)
	line.clear()
	p.peer = true
	if other := p.newProgress("as containers-storage", 0); stderr.String() != "" || other != nil {
		t.Errorf("of a moment: %q", stderr.String())
	}
}

// safeBuffer is a buffer that two goroutines share.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
