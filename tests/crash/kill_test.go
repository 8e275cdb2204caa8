package crash

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
)

// TestKill kills imports and deletions with SIGKILL at random moments, one after the
// other in one store. The moments are spread evenly over the time such a command takes
// when it is left alone, and for half of the imports over the bytes it has been given.
func TestKill(t *testing.T) {
	testutil.Root(t)
	kills := testutil.Count(t, "SHALE_KILLS", 60, 1000)
	dir, chance := t.TempDir(), newRand(t)
	sources := []harness.Archive{
		harness.SmallArchive(t, dir, "many", 600, 700),
		harness.SmallArchive(t, dir, "few", 12, 200<<10),
	}
	l := newLedger(harness.NewRoot(dir), harness.Shale(t), chance, sources)
	typical := map[bool]time.Duration{false: 100 * time.Millisecond, true: 50 * time.Millisecond} // by deletion or not
	killed, finished := 0, 0
	for round := 0; killed < kills; round++ {
		op := l.next()
		answered, took, err := l.interrupt(t, op, typical[op.intent.deletion])
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if answered {
			finished++
			typical[op.intent.deletion] = (3*typical[op.intent.deletion] + took) / 4
		} else {
			killed++
		}
		if finished > 4*kills+100 {
			t.Fatalf("%d commands were faster than their killer, only %d were not", finished, killed)
		}
		for _, violation := range l.settle(t.Context(), round%20 == 19) {
			t.Errorf("round %d, after %v (answered: %v): %s", round, op.args, answered, violation)
		}
		found, err := l.root.Audit()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range found.Broken {
			t.Errorf("round %d, after %v (answered: %v): %s", round, op.args, answered, line)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d killed, %d finished before; an import takes %v, a deletion %v", killed, finished, typical[false],
		typical[true])
	for _, violation := range l.settle(t.Context(), true) {
		t.Error(violation)
	}
	l.finish(t)
}

// interrupt starts an operation and kills it at a random moment. It reports whether the
// command was faster and answered, and how long it took then.
func (l *ledger) interrupt(t *testing.T, op operation, typical time.Duration) (answered bool,
	took time.Duration, err error) {
	l.start(op)
	fromStdin := op.file != "" && l.chance.IntN(2) == 0
	args := op.withFile()
	if fromStdin {
		args = op.args
	}
	cmd := l.root.Command(t.Context(), l.tool, args...)
	var stdin io.WriteCloser
	if fromStdin {
		if stdin, err = cmd.StdinPipe(); err != nil {
			return false, 0, err
		}
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return false, 0, err
	}
	// A quarter goes beyond the typical time, so that the last steps get their share of
	// kills too.
	delay := time.Duration(l.chance.Int64N(int64(typical)*5/4 + 1))
	if fromStdin {
		data, err := os.ReadFile(op.file)
		if err != nil {
			return false, 0, err
		}
		stdin.Write(data[:l.chance.IntN(len(data)+1)])
		delay /= 8
	}
	timer := time.AfterFunc(delay, func() { harness.Kill(cmd) })
	defer timer.Stop()
	if err = cmd.Wait(); err != nil {
		if cmd.ProcessState.ExitCode() >= 0 {
			return false, 0, &harness.Error{Tool: l.tool.Name, Args: args, Code: cmd.ProcessState.ExitCode(),
				Stderr: "failed by itself, nobody killed it"}
		}
		return false, 0, nil
	}
	l.answered(op)
	return true, time.Since(begun), nil
}
