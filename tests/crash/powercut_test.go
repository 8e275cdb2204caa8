package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
)

// TestPowerCut cuts the power of the file system that the store is on, half of the times
// at the instant a command was answered, the other half in the midst of one, mounts what
// the disk has and holds it against what was answered. All cuts happen to one store, each
// to what the last one left.
func TestPowerCut(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			cuts := testutil.Count(t, "SHALE_CUTS", 10, 500)
			b := newBench(t, kind, harness.Shale(t), newRand(t))
			b.startOver(t)
			for n := range cuts {
				what, err := b.cut(t, n%2 == 0)
				if err != nil {
					t.Fatalf("cut %d, %s: %v", n, what, err)
				}
				for _, violation := range b.settle(t.Context(), true) {
					t.Errorf("cut %d, %s: %s", n, what, violation)
				}
				if err := b.mountNewest(t.Context()); err != nil {
					t.Errorf("cut %d, %s: %v", n, what, err)
				}
				found, err := b.root.Audit()
				if err != nil {
					t.Fatal(err)
				}
				for _, line := range found.Broken {
					t.Errorf("cut %d, %s: %s", n, what, line)
				}
				if t.Failed() {
					t.FailNow()
				}
			}
			b.finish(t)
		})
	}
}

// TestPowerCutHasTeeth does the same to the peer, which does not promise by default what
// we do: a cut right after an answer must be seen to lose or spoil what was answered for.
// If not, the cuts above prove nothing.
func TestPowerCutHasTeeth(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t, kind, harness.Peer(t), newRand(t))
			for n := range 10 {
				b.startOver(t)
				if what, err := b.cut(t, true); err != nil {
					t.Fatalf("cut %d, %s: %v", n, what, err)
				}
				if violations := b.settle(t.Context(), true); len(violations) > 0 {
					t.Logf("cut %d is enough: %s", n, violations[0])
					return
				}
			}
			t.Error("ten power cuts right after an answer did the peer no harm")
		})
	}
}

// bench is a store on a file system of its own whose power can be cut.
type bench struct {
	*ledger
	loop    *testutil.Loop
	outside string // on another file system: archives and the run root, which a reboot empties
	starts  int
	took    time.Duration // what the last command cut right after its answer had taken
}

func newBench(t *testing.T, kind string, tool harness.Tool, chance *rand.Rand) *bench {
	t.Helper()
	b := &bench{loop: testutil.NewLoop(t, kind, 1024), outside: t.TempDir(), took: 50 * time.Millisecond}
	b.ledger = newLedger(harness.Root{}, tool, chance, []harness.Archive{
		harness.SmallArchive(t, b.outside, "many", 300, 4096),
		harness.SmallArchive(t, b.outside, "few", 10, 200<<10),
	})
	return b
}

// startOver begins an empty store.
func (b *bench) startOver(t *testing.T) {
	t.Helper()
	b.starts++
	*b.ledger = *newLedger(harness.NewRoot(filepath.Join(b.loop.Dir, fmt.Sprint("store", b.starts))), b.tool, b.chance,
		b.sources)
	b.newRun(t)
	if err := os.MkdirAll(b.root.Graph, 0o700); err != nil {
		t.Fatal(err)
	}
	// The store's own directory was there long before.
	if dir, err := os.Open(b.loop.Dir); err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bench) newRun(t *testing.T) {
	t.Helper()
	run, err := os.MkdirTemp(b.outside, "run")
	if err != nil {
		t.Fatal(err)
	}
	b.root.Run = run
}

// cut runs one to three operations, cuts the power at the instant the last was answered,
// or else somewhere in its course, and brings the file system up again.
func (b *bench) cut(t *testing.T, afterAnswer bool) (what string, err error) {
	for range b.chance.IntN(3) {
		op := b.next()
		if err := b.run(t.Context(), op); err != nil {
			return "before the cut", err
		}
	}
	op := b.next()
	what = fmt.Sprintf("in %v", op.args)
	b.start(op)
	cmd := b.root.Command(t.Context(), b.tool, op.withFile()...)
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return what, err
	}
	if afterAnswer {
		what = fmt.Sprintf("right after %v", op.args)
		if err := cmd.Wait(); err != nil {
			return what, err
		}
		if err := b.loop.Cut(); err != nil {
			return what, err
		}
		b.answered(op)
		b.took = time.Since(begun)
	} else {
		delay := time.Duration(b.chance.Int64N(int64(b.took) * 5 / 4))
		cutting := make(chan error, 1)
		time.AfterFunc(delay, func() { cutting <- b.loop.Cut() })
		// A disk that is gone may leave the command hanging; that is no answer.
		giveUp := time.AfterFunc(10*time.Second, func() { harness.Kill(cmd) })
		err := cmd.Wait()
		giveUp.Stop()
		if err == nil {
			b.answered(op) // even when the cut came first: what it said, it said
		}
		if err := <-cutting; err != nil {
			return what, err
		}
	}
	harness.Kill(cmd) // and whoever it may have left behind
	if err := b.loop.Unmount(); err != nil {
		return what, err
	}
	b.newRun(t)
	return what, b.loop.Mount()
}

// mountNewest mounts the youngest layer, so that the chain below it is seen whole by the
// kernel too.
func (b *bench) mountNewest(ctx context.Context) error {
	if len(b.order) == 0 {
		return nil
	}
	id := b.order[len(b.order)-1]
	if _, err := b.root.Do(ctx, b.tool, "mount", id); err != nil {
		return err
	}
	_, err := b.root.Do(ctx, b.tool, "unmount", id)
	return err
}
