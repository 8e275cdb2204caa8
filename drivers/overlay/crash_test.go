package overlay_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay"
	"github.com/shalestore/shale/drivers/overlay/examine"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/testutil"
)

// crashVariable tells a re-executed test binary what to do and where to die:
// "root\x1foperation\x1fstep".
const crashVariable = "SHALE_TEST_CRASH"

// operations are what may be interrupted. Each begins on a store with the layers base and
// child, which holds the file old.
var operations = map[string]func(ctx context.Context, d *overlay.Driver) error{
	"create": func(ctx context.Context, d *overlay.Driver) error {
		return create(ctx, d, "new", "child")
	},
	"create over a leftover": func(ctx context.Context, d *overlay.Driver) error {
		return create(ctx, d, "child", "base")
	},
	"delete": func(ctx context.Context, d *overlay.Driver) error {
		trash, err := d.Delete(ctx, "child")
		if err != nil {
			return err
		}
		step.Reached(ctx, "deleted")
		return trash.Empty(ctx)
	},
	"replace": func(ctx context.Context, d *overlay.Driver) error {
		s, err := stage(ctx, d, "base")
		if err != nil {
			return err
		}
		trash, err := s.Replace(ctx, "child")
		if err != nil {
			return err
		}
		step.Reached(ctx, "replaced")
		if err := s.Discard(); err != nil {
			return err
		}
		return trash.Empty(ctx)
	},
	"partial pull": func(ctx context.Context, d *overlay.Driver) error {
		p, err := d.StagePull(ctx, drivers.StageOptions{})
		if err != nil {
			return err
		}
		step.Reached(ctx, "pull staged")
		if err := os.WriteFile(filepath.Join(p.Content(), "new"), nil, 0o644); err != nil {
			return err
		}
		step.Reached(ctx, "pull filled")
		trash, err := p.Install(ctx, "child", false)
		if err != nil {
			return err
		}
		step.Reached(ctx, "pull installed")
		return trash.Empty(ctx)
	},
}

func stage(ctx context.Context, d *overlay.Driver, parent string) (drivers.Staged, error) {
	s, err := d.Stage(ctx, parent, drivers.StageOptions{})
	if err != nil {
		return nil, err
	}
	step.Reached(ctx, "staged")
	if err := os.WriteFile(filepath.Join(s.Content(), "new"), nil, 0o644); err != nil {
		return nil, err
	}
	step.Reached(ctx, "filled")
	return s, nil
}

func create(ctx context.Context, d *overlay.Driver, id, parent string) error {
	s, err := stage(ctx, d, parent)
	if err != nil {
		return err
	}
	if err := s.Commit(ctx, id); err != nil {
		return err
	}
	step.Reached(ctx, "committed")
	return s.Discard()
}

// crash is what TestMain does in a child.
func crash(orders string) {
	root, rest, _ := strings.Cut(orders, "\x1f")
	operation, at, _ := strings.Cut(rest, "\x1f")
	ctx := step.Watch(context.Background(), func(name string) {
		if name == at {
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	d, err := overlay.Open(ctx, overlay.Options{Place: drivers.Place{Root: root}})
	if err == nil {
		err = operations[operation](ctx, d)
	}
	fmt.Println("alive after all:", err)
	os.Exit(1)
}

// freshStore makes the layers that operations begin on.
func freshStore(t *testing.T) (root string, d *overlay.Driver) {
	t.Helper()
	root = t.TempDir()
	d = open(t, drivers.Place{Root: root}).(*overlay.Driver)
	for _, id := range []string{"base", "child"} {
		parent := ""
		if id == "child" {
			parent = "base"
		}
		s, err := d.Stage(t.Context(), parent, drivers.StageOptions{})
		must(t, err)
		testutil.Tree(t, s.Content(), "old="+id)
		must(t, s.Commit(t.Context(), id))
		must(t, s.Discard())
	}
	return root, d
}

// steps runs an operation to its end and notes where it can be interrupted.
func steps(t *testing.T, operation string) (names []string) {
	t.Helper()
	_, d := freshStore(t)
	must(t, operations[operation](step.Watch(t.Context(), func(name string) { names = append(names, name) }), d))
	if len(names) < 2 {
		t.Fatalf("%s has too few steps to interrupt: %q", operation, names)
	}
	return names
}

func TestKilledBetweenAnyTwoSteps(t *testing.T) {
	testutil.Root(t)
	for operation := range operations {
		for _, at := range steps(t, operation) {
			t.Run(operation+"/"+at, func(t *testing.T) {
				root, d := freshStore(t)
				cmd := exec.Command("/proc/self/exe")
				cmd.Env = append(os.Environ(), crashVariable+"="+root+"\x1f"+operation+"\x1f"+at)
				out, err := cmd.CombinedOutput()
				if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok ||
					status.Signal() != syscall.SIGKILL {
					t.Fatalf("the child should have died: %v\n%s", err, out)
				}
				afterCrash(t, root, d)
			})
		}
	}
}

// afterCrash asserts what must hold after any crash: what is listed is whole, nothing is
// in the way of doing it again, and Recover takes away, or Leftovers names, all else.
func afterCrash(t *testing.T, root string, d *overlay.Driver) {
	t.Helper()
	ctx := t.Context()
	must(t, d.Recover(ctx))
	if left, err := os.ReadDir(filepath.Join(root, "overlay/tempdirs")); err != nil || len(left) > 0 {
		t.Errorf("left in tempdirs after recovery: %v (%v)", left, err)
	}
	stale, err := examine.Of(d).StalePulls(ctx)
	must(t, err)
	must(t, examine.Of(d).SweepPulls(ctx))
	if left, err := os.ReadDir(filepath.Join(root, "overlay/staging")); err == nil && len(left) > 0 {
		t.Errorf("of %q is left in staging: %v", stale, left)
	}
	ids, err := d.List(ctx)
	must(t, err)
	for _, id := range ids {
		info, err := d.Stat(ctx, id)
		must(t, err)
		entries, err := os.ReadDir(info.Content)
		must(t, err)
		if len(entries) != 1 {
			t.Errorf("layer %s should be wholly old or wholly new, and holds %v", id, entries)
		}
		if _, err := d.Mounts(ctx, id, drivers.MountOptions{}); err != nil {
			t.Errorf("layer %s can't be mounted: %v", id, err)
		}
	}
	if !slices.Contains(ids, "base") {
		t.Error("an untouched layer is gone")
	}

	// Whatever it was, it can be undone and done again.
	for _, id := range []string{"new", "child"} {
		trash, err := d.Delete(ctx, id)
		must(t, err)
		must(t, trash.Empty(ctx))
	}
	must(t, create(ctx, d, "child", "base"))
	must(t, create(ctx, d, "new", "child"))
	left, err := examine.Of(d).Leftovers(ctx)
	must(t, err)
	for _, path := range left {
		must(t, os.Remove(path))
	}
	links, err := os.ReadDir(filepath.Join(root, "overlay/l"))
	must(t, err)
	if len(links) != 3 {
		t.Errorf("3 layers, and short names %v", links)
	}
	for _, id := range []string{"base", "child", "new"} {
		link, err := os.ReadFile(filepath.Join(root, "overlay", id, "link"))
		must(t, err)
		if target, err := os.Readlink(filepath.Join(root, "overlay/l", string(link))); err != nil || target != "../"+id+
			"/diff" {
			t.Errorf("the short name of %s leads to %q (%v)", id, target, err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
