package layers

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/testutil"
)

// What is written goes to the disk before anybody asks for it, all but the last of it.
func TestWriteBehind(t *testing.T) {
	loop := testutil.NewLoop(t, "ext4", 1024)
	fs, err := fsat.NewSyncer(loop.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	var gauge fsat.Gauge
	b := &writeBehind{path: loop.Dir}
	file, err := os.Create(filepath.Join(loop.Dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	piece := make([]byte, 1<<20)
	write := func(n int) {
		for range n {
			if _, err := file.Write(piece); err != nil {
				t.Fatal(err)
			}
			b.wrote(int64(len(piece)))
		}
	}
	const enough = behindAfter >> 20
	written := func() bool {
		if err := b.wait(); err != nil {
			t.Fatal(err)
		}
		return gauge.LittleWaits(fs)
	}
	write(enough / 2)
	if written() {
		t.Errorf("nothing waits after %d MiB: the test shows nothing", enough/2)
	}
	write(enough / 2)
	if !written() {
		t.Errorf("much waits after %d MiB", enough)
	}
	write(enough)
	if !written() {
		t.Errorf("much waits after %d MiB", 2*enough)
	}
}

// The kernel tells of what it couldn't write once: an early sync's error must not be
// lost.
func TestWriteBehindRemembersErrors(t *testing.T) {
	b := &writeBehind{path: filepath.Join(t.TempDir(), "gone")}
	b.wrote(behindAfter)
	for range 2 {
		if err := b.wait(); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("got %v, want %v", err, fs.ErrNotExist)
		}
	}
	d := &Draft{store: &Store{}, behind: b}
	if err := d.Sync(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the draft's sync: got %v, want %v", err, fs.ErrNotExist)
	}
}
