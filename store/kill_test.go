package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
)

// The environment of a child that works on a store until it kills itself.
const (
	killWork  = "SHALE_KILL_WORK"  // the name of one of works
	killRoots = "SHALE_KILL_ROOTS" // graph root, run root and driver, in JSON
	killAt    = "SHALE_KILL_AT"    // how many steps it lives
)

// killed is what a child does instead of running tests: the work that it is told, until
// the step at which it kills itself. Without such a step it prints the names of those
// that there are.
func killed(name string) {
	var cfg config.Config
	if err := json.Unmarshal([]byte(os.Getenv(killRoots)), &cfg); err != nil {
		panic(err)
	}
	at, err := strconv.Atoi(os.Getenv(killAt))
	if err != nil {
		panic(err)
	}
	n := 0
	ctx := step.Watch(context.Background(), func(name string) {
		n++
		if n == at {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		fmt.Println(name)
	})
	s, err := store.Open(ctx, cfg)
	if err == nil {
		do := works[name].do
		if name == repairWork {
			do = repairByForce
		}
		err = do(ctx, s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child runs a work in a process of its own, which dies at step number at, or doesn't
// when at is 0.
func child(t *testing.T, cfg config.Config, name string, at int) (steps []string, dead bool) {
	t.Helper()
	roots, err := json.Marshal(config.Config{GraphRoot: cfg.GraphRoot, RunRoot: cfg.RunRoot, Driver: cfg.Driver,
		Overlay: cfg.Overlay})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killWork+"="+name, killRoots+"="+string(roots), killAt+"="+strconv.Itoa(at))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	steps = strings.Split(strings.TrimSpace(string(out)), "\n")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return steps, true
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	return steps, false
}

func (w work) roots(t *testing.T) config.Config {
	cfg := roots(t)
	if w.set != nil {
		w.set(&cfg)
	}
	return cfg
}

// Every operation is killed at every one of its steps. Then the store must open as if
// nothing had happened: what was there before is there, what is listed is whole, and only
// what garbage collection knows is left over. The operation, tried again, succeeds.
func TestKilledAtEachStep(t *testing.T) {
	for name, work := range works {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := work.roots(t)
			work.prepare(t, cfg, open(t, cfg))
			steps, _ := child(t, cfg, name, 0)
			t.Logf("%d steps: %s", len(steps), strings.Join(steps, ", "))
			if len(steps) < 2 {
				t.Fatal("no steps to be killed at")
			}
			for at := 1; at <= len(steps); at++ {
				t.Run(fmt.Sprintf("%d %s", at, steps[at-1]), func(t *testing.T) {
					cfg := work.roots(t)
					work.prepare(t, cfg, open(t, cfg))
					if _, dead := child(t, cfg, name, at); !dead {
						t.Fatal("the child lived on")
					}
					s := open(t, cfg)
					whole(t, s, work.must)
					if err := work.do(context.Background(), s); err != nil {
						t.Fatalf("tried again: %v", err)
					}
					whole(t, s, work.must)
					if _, err := fsck.GC(context.Background(), s, fsck.GCOptions{}); err != nil {
						t.Fatal(err)
					}
					whole(t, s, work.must)
					noGarbage(t, s)
					nothingElse(t, cfg, s)
				})
			}
		})
	}
}

// whole fails the test unless all of the layers exist, and every layer that exists can be
// mounted and gives the tar it was made from.
func whole(t *testing.T, s *store.Store, must []string) {
	t.Helper()
	ctx := context.Background()
	all, err := allLayers(s)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, l := range all {
		ids = append(ids, l.ID)
		if l.Parent != "" && !slices.ContainsFunc(all, func(p layers.Layer) bool { return p.ID == l.Parent }) {
			t.Fatalf("layer %s has lost its parent", l.ID)
		}
		out := export(t, s, l.ID)
		if l.DiffID != "" && l.DiffID.Algorithm().FromBytes(out) != l.DiffID {
			t.Fatalf("layer %s isn't what it was", l.ID)
		}
		if _, err := s.Mount(ctx, l.ID, store.MountOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Unmount(ctx, l.ID, false); err != nil {
			t.Fatal(err)
		}
		for _, key := range l.BigDataNames {
			r, err := layerData(s, l.ID, key)
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
		}
	}
	for _, id := range must {
		if !slices.Contains(ids, id) {
			t.Fatalf("layer %s is lost; there are %q", id, ids)
		}
	}
	images, err := allImages(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		if !slices.Contains(ids, i.TopLayer) {
			t.Fatalf("image %s has lost its layer", i.ID)
		}
		for _, key := range i.BigDataNames {
			if _, err := imageData(s, i.ID, key); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// nothingElse looks with other eyes than garbage collection: it fails the test if there
// is any file that it can't account for.
func nothingElse(t *testing.T, cfg config.Config, s *store.Store) {
	t.Helper()
	all, err := allLayers(s)
	if err := errors.Join(err, s.Wait(context.Background())); err != nil {
		t.Fatal(err)
	}
	expected := map[string]bool{"l": true, "tempdirs": true, "layers.json": true, "volatile-layers.json": true,
		"layers.lock": true, "tmp": true,
		"staging": true, "keepme": true}
	for _, l := range all {
		expected[l.ID], expected[l.ID+".tar-split.gz"] = true, true
	}
	for _, dir := range []string{"overlay", "overlay-layers", "overlay/tempdirs", "overlay-layers/tmp", "overlay/l"} {
		entries, err := os.ReadDir(filepath.Join(cfg.GraphRoot, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			if dir == "overlay/l" {
				if _, err := os.Stat(filepath.Join(cfg.GraphRoot, dir, e.Name())); err != nil {
					t.Errorf("a link that leads nowhere: %v", err)
				}
				continue
			}
			if !expected[e.Name()] && !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".tmp-") ||
				strings.HasPrefix(e.Name(), "lock-") {
				t.Errorf("left over: %s/%s", dir, e.Name())
			}
		}
	}
}
