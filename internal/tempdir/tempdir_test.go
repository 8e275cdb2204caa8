package tempdir_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/internal/tempdir"
)

// The test binary plays the other processes: one that makes a directory and then waits to
// be killed, and one that makes and recovers directories as fast as it can.
func TestMain(m *testing.M) {
	switch os.Getenv("TEMPDIR_TEST_ROLE") {
	case "hold":
		d, err := tempdir.New(os.Args[1])
		if err == nil {
			err = os.WriteFile(d.Addition(), []byte("half"), 0o600)
		}
		fmt.Println(d.Path(), err)
		io.Copy(io.Discard, os.Stdin)
		return
	case "churn":
		if err := churn(os.Args[1], 300); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// churn makes directories, checks that they stay while it has them, and recovers those of
// others.
func churn(root string, rounds int) error {
	for range rounds {
		d, err := tempdir.New(root)
		if err != nil {
			return err
		}
		member := d.Addition()
		if err := os.WriteFile(member, []byte("mine"), 0o600); err != nil {
			return fmt.Errorf("a living directory lost: %w", err)
		}
		if err := tempdir.Recover(context.Background(), root); err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		if data, err := os.ReadFile(member); err != nil || string(data) != "mine" {
			return fmt.Errorf("a living directory lost: %q, %w", data, err)
		}
		if err := d.Close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
	}
	return nil
}

func process(t *testing.T, role, root string) (cmd *exec.Cmd, out *bufio.Reader, in io.WriteCloser) {
	t.Helper()
	cmd = exec.Command(os.Args[0], root)
	cmd.Env = append(os.Environ(), "TEMPDIR_TEST_ROLE="+role)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewReader(stdout), in
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func newDir(t *testing.T, root string) *tempdir.Dir {
	t.Helper()
	d, err := tempdir.New(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestLife(t *testing.T) {
	root := filepath.Join(t.TempDir(), "overlay", "tempdirs")
	d := newDir(t, root)
	n, ok := strings.CutPrefix(filepath.Base(d.Path()), "temp-dir-")
	if got, want := names(t, root), []string{"lock-" + n, "temp-dir-" + n}; !ok || !slices.Equal(got, want) {
		t.Fatalf("the root has %v, want %v", got, want)
	}
	if st, err := os.Stat(d.Path()); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v, want 0700", st.Mode(), err)
	}

	victims := t.TempDir()
	for _, v := range []string{"layer", strings.Repeat("x", 255)} {
		if err := os.MkdirAll(filepath.Join(victims, v, "diff"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	add := d.Addition()
	if err := os.Mkdir(add, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"layer", strings.Repeat("x", 255), "missing"} {
		if err := d.Take(filepath.Join(victims, v)); err != nil {
			t.Error(err)
		}
	}
	if got, want := names(t, d.Path()), []string{"0-addition", "1-layer",
		"2-" + strings.Repeat("x", 200)}; !slices.Equal(got, want) {
		t.Errorf("members are %v, want %v", got, want)
	}
	if left := names(t, victims); len(left) > 0 {
		t.Errorf("not taken: %v", left)
	}
	if err := os.Rename(add, filepath.Join(victims, "committed")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Remove(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if left := names(t, root); len(left) > 0 {
		t.Errorf("left in the root: %v", left)
	}
	if err := d.Take(victims); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Take after Remove: %v, want ErrNotExist", err)
	}
}

func TestRecoverAfterKill(t *testing.T) {
	root := t.TempDir()
	mine := newDir(t, root)
	victim, out, _ := process(t, "hold", root)
	line, _ := out.ReadString('\n')
	theirs, ok := strings.CutSuffix(line, " <nil>\n")
	if !ok {
		t.Fatalf("the other process says %q", line)
	}

	// While both live there is nothing to recover.
	if stale, err := tempdir.Stale(root); len(stale) > 0 || err != nil {
		t.Errorf("stale: %v, %v", stale, err)
	}
	if err := tempdir.Recover(context.Background(), root); err != nil {
		t.Fatal(err)
	}
	if got := len(names(t, root)); got != 4 {
		t.Fatalf("recovery of living directories left %d names of 4", got)
	}

	victim.Process.Kill()
	victim.Wait()
	lock := strings.Replace(theirs, "temp-dir-", "lock-", 1)
	if stale, err := tempdir.Stale(root); !slices.Equal(stale, []string{theirs, lock}) || err != nil {
		t.Errorf("stale: %v, %v, want %v and %v", stale, err, theirs, lock)
	}
	if err := tempdir.Recover(context.Background(), root); err != nil {
		t.Fatal(err)
	}
	n := strings.TrimPrefix(filepath.Base(mine.Path()), "temp-dir-")
	if got, want := names(t, root), []string{"lock-" + n, "temp-dir-" + n}; !slices.Equal(got, want) {
		t.Errorf("after recovery: %v, want %v", got, want)
	}
}

// What a crash can leave at every step of New and Remove, and of others' versions of
// them.
func TestRecoverLeftovers(t *testing.T) {
	root := t.TempDir()
	for _, path := range []string{"lock-1", "lock-3", "lock-x y", "unrelated", "temp-dirt", "lock-", "temp-dir-"} {
		if err := os.WriteFile(filepath.Join(root, path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"temp-dir-2/0-addition/x", "temp-dir-3", "temp-dir-..", "other"} {
		if err := os.MkdirAll(filepath.Join(root, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	stale, err := tempdir.Stale(root)
	if err != nil || len(stale) != 6 {
		t.Errorf("stale: %q, %v", stale, err)
	}
	if _, err := os.Lstat(filepath.Join(root, "lock-2")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stale made a lock file: %v", err)
	}
	if err := tempdir.Recover(context.Background(), root); err != nil {
		t.Fatal(err)
	}
	// lock-1 and lock-x y may belong to a process that is about to lock them.
	if got, want := names(t, root), []string{"lock-", "lock-1", "lock-x y", "other", "temp-dir-", "temp-dirt",
		"unrelated"}; !slices.Equal(got, want) {
		t.Errorf("after recovery: %q, want %q", got, want)
	}
	if err := tempdir.Sweep(context.Background(), root); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, root), []string{"lock-", "other", "temp-dir-", "temp-dirt",
		"unrelated"}; !slices.Equal(got, want) {
		t.Errorf("after a sweep: %q, want %q", got, want)
	}
	if err := tempdir.Recover(context.Background(), filepath.Join(root, "missing")); err != nil {
		t.Errorf("a missing root: %v", err)
	}
}

// A process that waits for nobody: between its creation of lock-N and its lock, another
// may have recovered lock-N. And between an open of lock-N by a recovery and its lock,
// the owner may have removed both, and a new owner made them again.
func TestRecoverLeavesANewOwnerAlone(t *testing.T) {
	root := t.TempDir()
	lock, dir := filepath.Join(root, "lock-7"), filepath.Join(root, "temp-dir-7")
	old, err := lockfile.TryAcquire(lock, lockfile.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	// The old owner goes: unlink, then release. A recovery that had opened the file
	// before the unlink locks it now.
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	owner, err := lockfile.TryAcquire(lock, lockfile.Exclusive) // of the new file
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Release()
	if err := os.MkdirAll(filepath.Join(dir, "0-addition"), 0o700); err != nil {
		t.Fatal(err)
	}
	if ok, err := old.Current(); ok || err != nil {
		t.Fatalf("the old lock passes for the new one: %v, %v", ok, err)
	}
	old.Release()
	if err := tempdir.Recover(context.Background(), root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "0-addition")); err != nil {
		t.Errorf("recovery took a living directory: %v", err)
	}
	if _, err := lockfile.TryAcquire(lock, lockfile.Exclusive); !errors.Is(err, errdefs.ErrBusy) {
		t.Errorf("lock-7: %v, want ErrBusy", err)
	}
}

// Many processes and goroutines make, lose and recover directories in one root; none may
// ever lose a living one.
func TestChurn(t *testing.T) {
	root := t.TempDir()
	var wg sync.WaitGroup
	for range 3 {
		cmd, out, in := process(t, "churn", root)
		in.Close()
		wg.Go(func() {
			said, _ := io.ReadAll(out)
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, said)
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			if err := churn(root, 300); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left := names(t, root); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A directory that can't be removed is reported, does not stop the others from going, and
// stays stale.
func TestRecoverReportsAndGoesOn(t *testing.T) {
	root := t.TempDir()
	for _, n := range []string{"1", "2", "3"} {
		if err := os.Mkdir(filepath.Join(root, "temp-dir-"+n), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// A directory in the place of the lock file can't be locked.
	if err := os.Mkdir(filepath.Join(root, "lock-2"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := tempdir.Recover(context.Background(), root); !errors.Is(err, errdefs.ErrCorrupt) {
		t.Errorf("%v, want it named as damaged", err)
	}
	if got, want := names(t, root), []string{"lock-2", "temp-dir-2"}; !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
}
