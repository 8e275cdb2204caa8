package fsat_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// ext4 tells what waits to be written to it, whatever happens on other file systems, and
// the next file system on the same device does.
func TestLittleWaits(t *testing.T) {
	loop := testutil.NewLoop(t, "ext4", 256)
	var gauge fsat.Gauge
	for range 2 {
		littleWaits(t, &gauge, loop.Dir)
		if err := loop.Format(); err != nil {
			t.Fatal(err)
		}
	}
}

func littleWaits(t *testing.T, gauge *fsat.Gauge, dir string) {
	t.Helper()
	s, err := fsat.NewSyncer(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !gauge.LittleWaits(s) {
		t.Error("something waits on a new file system")
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if gauge.LittleWaits(s) {
		t.Error("nothing waits after a write of 64 MiB")
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if !gauge.LittleWaits(s) {
		t.Error("something waits after a sync")
	}
}

// Parts are synced one by one and in order where much waits; the first error ends it.
func TestBarrierOfSingleSyncs(t *testing.T) {
	testutil.Root(t)
	dir := testutil.LoopFS(t, "ext4", 256)
	large, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	if _, err := large.Write(make([]byte, 64<<20)); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(large.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	var synced []string
	broken := errors.New("broken")
	add := func(b *fsat.Barrier, name string, err error) {
		b.AddFile(name, int(large.Fd()), &st, func() error {
			synced = append(synced, name)
			return err
		})
	}
	var b fsat.Barrier
	add(&b, "one", nil)
	add(&b, "two", broken)
	add(&b, "three", nil)
	if err := b.Sync(); !errors.Is(err, broken) || !slices.Equal(synced, []string{"one", "two"}) {
		t.Errorf("%v, %v", err, synced)
	}

	// With the whole file system added nothing needs a sync of its own.
	whole, err := fsat.NewSyncer(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	synced = nil
	b = fsat.Barrier{}
	add(&b, "one", broken)
	b.AddDir(filepath.Join(dir, "missing"), st.Dev)
	b.AddFS(whole)
	if err := b.Sync(); err != nil || len(synced) > 0 {
		t.Errorf("%v, %v", err, synced)
	}
	if none := (*fsat.Gauge)(nil); !none.LittleWaits(whole) {
		t.Error("nothing was synced")
	}
}
