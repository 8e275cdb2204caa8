package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// The environment of a child that works on a store until it kills itself.
const (
	killWork  = "SHALE_KILL_WORK"  // the name of one of works
	killRoots = "SHALE_KILL_ROOTS" // graph root, run root and driver, in JSON
	killAt    = "SHALE_KILL_AT"    // how many steps it lives
)

// Killed is what a child does instead of running tests: the work that it is told, until
// the step at which it kills itself. It prints the names of the steps that it does. Of a
// process that is no such child it reports false, and does nothing.
func Killed(works map[string]func(context.Context, *store.Store) error) bool {
	name := os.Getenv(killWork)
	if name == "" {
		return false
	}
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
		err = works[name](ctx, s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// Child runs a work in a process of its own, whose TestMain calls Killed. It dies at step
// number at, or doesn't when at is 0.
func Child(t *testing.T, cfg config.Config, name string, at int) (steps []string, dead bool) {
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

// Whole fails the test unless all of the layers exist, and every layer that exists can be
// mounted and gives the tar it was made from.
func Whole(t *testing.T, s *store.Store, must []string) {
	t.Helper()
	ctx := context.Background()
	all, err := Layers(s)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, l := range all {
		ids = append(ids, l.ID)
		if l.Parent != "" && !slices.ContainsFunc(all, func(p layers.Layer) bool { return p.ID == l.Parent }) {
			t.Fatalf("layer %s has lost its parent", l.ID)
		}
		out := Export(t, s, l.ID)
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
			r, err := LayerData(s, l.ID, key)
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
	images, err := Images(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		if !slices.Contains(ids, i.TopLayer) {
			t.Fatalf("image %s has lost its layer", i.ID)
		}
		for _, key := range i.BigDataNames {
			if _, err := ImageData(s, i.ID, key); err != nil {
				t.Fatal(err)
			}
		}
	}
}
