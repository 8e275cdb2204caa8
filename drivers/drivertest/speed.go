package drivertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/testutil"
)

// Bench runs the benchmarks: a layer's life without content, mounting at several depths,
// and telling about a layer. Each syncs as the driver's contract asks, so the disk
// counts.
func Bench(b *testing.B, s Suite) {
	b.Run("CreateDelete", func(b *testing.B) {
		testutil.Root(b)
		t := newBench(b, s)
		t.create("base", "", "f=1")
		for b.Loop() {
			layer, err := t.driver.Stage(t.ctx, "base", drivers.StageOptions{Writable: true})
			t.must(err)
			t.commit(layer, "top")
			t.remove("top")
		}
	})
	for _, depth := range []int{1, 10, 50, 120, 400, 499} {
		if s.Depth < depth && depth > 1 {
			break // a driver that copies
		}
		b.Run(fmt.Sprintf("MountUnmount/%d", depth), func(b *testing.B) {
			testutil.Root(b)
			t := stackOn(b, s, depth)
			best := time.Hour
			for b.Loop() {
				start := time.Now()
				_, unmount := t.mounted("top", drivers.MountOptions{})
				best = min(best, time.Since(start))
				unmount()
			}
			b.ReportMetric(best.Seconds()*1000, "best-mount-ms")
		})
	}
	b.Run("Stat", func(b *testing.B) {
		testutil.Root(b)
		t := newBench(b, s)
		t.create("base", "", "f=1")
		for b.Loop() {
			t.stat("base")
		}
	})
	b.Run("Open", func(b *testing.B) {
		testutil.Root(b)
		t := newBench(b, s)
		for b.Loop() {
			t.must(s.Open(b, t.place).Close())
		}
	})
}

// stackOn makes a store with a layer named top on depth others.
func stackOn(b *testing.B, s Suite, depth int) *bench {
	b.Helper()
	t := newBench(b, s)
	parent := ""
	for i := range depth {
		id := fmt.Sprintf("%064x", i)
		t.create(id, parent)
		parent = id
	}
	t.create("top", parent)
	return t
}
