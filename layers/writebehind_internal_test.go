package layers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
)

// What is written goes to the disk before anybody asks for it, all but the last of it.
func TestWriteBehind(t *testing.T) {
	loop := testutil.NewLoop(t, "ext4", 1024)
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
	write(enough)
	if err := b.wait(); err != nil {
		t.Fatal(err)
	}
	if mib := waitingMiB(t, loop.Device); mib > 1 {
		t.Errorf("%d MiB wait to be written after %d", mib, enough)
	}
	write(enough / 2)
	if mib := waitingMiB(t, loop.Device); mib < enough/4 {
		t.Skipf("the kernel has written all but %d MiB by itself", mib)
	}
	write(enough / 2)
	if err := b.wait(); err != nil {
		t.Fatal(err)
	}
	if mib := waitingMiB(t, loop.Device); mib > 1 {
		t.Errorf("%d MiB wait to be written after %d", mib, 2*enough)
	}
}

// waitingMiB is how much an ext4 has not found a place for yet.
func waitingMiB(t *testing.T, device string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/sys/fs/ext4/%s/delayed_allocation_blocks", filepath.Base(device)))
	if err != nil {
		t.Skip(err)
	}
	blocks, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return blocks * 4096 >> 20
}

// The kernel tells of what it couldn't write once: an early sync's error must not be lost.
func TestWriteBehindRemembersErrors(t *testing.T) {
	b := &writeBehind{path: filepath.Join(t.TempDir(), "gone")}
	b.wrote(behindAfter)
	for range 2 {
		if err := b.wait(); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("got %v, want %v", err, fs.ErrNotExist)
		}
	}
}
