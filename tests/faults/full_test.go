package faults

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// On a disk without a free block what makes room is killed before each of its changes,
// some of which go to the reserves of the records. The disk stays full; the command run
// again makes room, and nothing else is lost.
func TestKilledOnAFullDisk(t *testing.T) {
	b, most, chance := newBench(t), testutil.Count(t, "SHALE_FULL_KILLS", 4, 1000), newRand(t)
	kills, inReserve := 0, 0
	for _, c := range commands {
		if !slices.Contains([]string{"unmount", "delete container", "delete mounted container", "delete layer",
			"delete image"}, c.name) {
			continue
		}
		prepare := c.prepare
		c.prepare = func(t testing.TB, b *bench) {
			// A copied store has no reserves; saves that grow make them.
			b.must(t, "add-names", "-n", "grown", top)
			b.must(t, "add-names", "-n", "larger", image)
			b.must(t, "create-container", "-i", id('f'), image)
			b.must(t, "mount", id('f'))
			if c.args[0] == "delete-image" {
				b.must(t, "delete-container", id('f'))
			}
			if prepare != nil {
				prepare(t, b)
			}
			b.fill(t)
		}
		b.empty(t)
		before, after, whole := b.undisturbed(t, c)
		for _, n := range sites(chance, len(whole.changes), most) {
			b.empty(t)
			b.begin(t, c)
			f := fault{at: n + 1}
			o := b.do(t, c, f)
			if !o.killed {
				continue
			}
			kills++
			if slices.Contains(o.changes, unix.SYS_RENAMEAT2) {
				inReserve++
			}
			if err := b.settled(t, c, before, after, o); err != nil {
				t.Errorf("%s on a full disk, %v (%s): %v", c.name, f, o.names(), err)
			}
		}
	}
	t.Logf("%d kills on a full disk, %d after records were exchanged with a reserve", kills, inReserve)
}

// fill takes all room on the file system of the store, and empty gives it back.
func (b *bench) fill(t testing.TB) {
	t.Helper()
	file, err := os.Create(b.dir + "/filler")
	must(t, err)
	defer file.Close()
	block := make([]byte, 1<<20)
	for size := len(block); size >= 512; {
		if _, err := file.Write(block[:size]); err != nil {
			size /= 2
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(b.dir, &st); err != nil || st.Bfree != 0 {
		t.Fatal(fmt.Sprint(st.Bfree, " blocks are free: ", err))
	}
}

func (b *bench) empty(t testing.TB) {
	t.Helper()
	must(t, os.RemoveAll(b.dir+"/filler"))
}
