package testutil

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// Long reports whether this run has time. `make test-long` sets SHALE_LONG: each test
// then has all its cases, and goes round as often as a release wants.
func Long() bool { return os.Getenv("SHALE_LONG") != "" }

// NeedsLong skips what takes longer than `make test` has.
func NeedsLong(t testing.TB) {
	t.Helper()
	if !Long() {
		t.Skip("needs time: make test-long")
	}
}

// Count is how often a test goes round: few times, many in a long run, or as often as the
// environment variable says.
func Count(t testing.TB, variable string, few, many int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		if Long() {
			return many
		}
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number of at least 1", variable, text)
	}
	return n
}

// Seed is where a test's chances come from: the time, or what SHALE_SEED says, so that a
// run can be had again. The test's log names it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SHALE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SHALE_SEED: %v", err)
		}
	}
	t.Logf("SHALE_SEED=%d", seed)
	return seed
}

// Sample chooses among many cases that are alike: in a long run it takes all, and
// otherwise each third, beginning with another one each time.
func Sample(t testing.TB) func(n int) bool {
	t.Helper()
	if Long() {
		return func(int) bool { return true }
	}
	first := int(Seed(t) % 3)
	return func(n int) bool { return n%3 == first }
}
