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

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// The environment of a child that works on a store until it kills itself.
const (
	killWork  = "SHALE_KILL_WORK"  // the name of one of the works below
	killRoots = "SHALE_KILL_ROOTS" // graph root, run root and driver, in JSON
	killAt    = "SHALE_KILL_AT"    // how many steps it lives
)

// work is an operation that is killed at each of its steps.
type work struct {
	// set changes how the store is opened; nil leaves it.
	set func(*config.Config)
	// prepare makes what the operation needs.
	prepare func(t *testing.T, cfg config.Config, s *store.Store)
	// do is the operation. It runs in the child, and after the kill once more in the parent, where it must succeed.
	do func(ctx context.Context, s *store.Store) error
	// parallel is an operation that takes its steps side by side, so that one of them may come once more or less.
	parallel bool
	// must are layers that exist whatever happened. Whichever others are listed must be whole.
	must []string
}

var killTar = func() []byte { return layerTar(&testing.T{}, "etc/", "etc/hosts", "new") }

var works = map[string]work{
	"import": {
		prepare: base,
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.ImportLayer(ctx, layers.CreateOptions{ID: id("new"), Parent: "base", Names: []string{"new"},
				BigData: []layers.Item{{Key: "key", Data: strings.NewReader("value")}}}, bytes.NewReader(killTar()), nil)
			return unless(err, errdefs.ErrDuplicateID)
		},
		must: []string{id("base")},
	},
	"import three layers together": {
		prepare: base, parallel: true,
		do: func(ctx context.Context, s *store.Store) error {
			var chain []store.LayerImport
			for _, word := range []string{"one", "two", "three"} {
				chain = append(chain, store.LayerImport{Options: layers.CreateOptions{ID: id(word)}, Tar: bytes.NewReader(killTar())})
			}
			_, err := s.ImportLayers(ctx, "base", chain)
			return unless(err, errdefs.ErrDuplicateID)
		},
		must: []string{id("base")},
	},
	"create a container": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			image(t, s)
		},
		do: func(ctx context.Context, s *store.Store) error {
			// The layer's ID is fixed here so that a second try meets what the first has left.
			if _, err := s.Container(ctx, "box"); err == nil {
				return nil
			}
			if _, err := s.Layer(ctx, id("boxlayer")); err == nil { // recorded before the container, and known to nobody
				if err := s.DeleteLayer(ctx, id("boxlayer")); err != nil {
					return err
				}
			}
			_, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id("box"), Layer: id("boxlayer"), Names: []string{"box"}, Image: "img"})
			return err
		},
		must: []string{id("base")},
	},
	"apply to an empty layer": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			if _, err := s.CreateLayer(context.Background(), layers.CreateOptions{ID: id("empty"), Parent: "base"}); err != nil {
				t.Fatal(err)
			}
		},
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.ApplyDiff(ctx, id("empty"), bytes.NewReader(killTar()), nil)
			return err
		},
		must: []string{id("base"), id("empty")},
	},
	"apply to a full layer": {
		prepare: base,
		do: func(ctx context.Context, s *store.Store) error {
			// It names all that was there before: Check takes what no tar names for a change.
			tar := layerTar(&testing.T{}, "etc/", "etc/hosts", "new", "bin/", "bin/sh")
			_, err := s.ApplyDiff(ctx, "base", bytes.NewReader(tar), nil)
			return err
		},
		must: []string{id("base")},
	},
	"delete a mounted layer": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			importLayer(t, s, id("top"), "base", killTar(), "top")
			if _, err := s.Mount(context.Background(), "top", store.MountOptions{}); err != nil {
				t.Fatal(err)
			}
		},
		do: func(ctx context.Context, s *store.Store) error {
			return unless(s.DeleteLayer(ctx, "top"), errdefs.ErrNotFound)
		},
		must: []string{id("base")},
	},
	"delete an image": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			importLayer(t, s, id("top"), "base", killTar(), "top")
			_, err := s.CreateImage(context.Background(), store.ImageOptions{ID: id("img"), Names: []string{"img"}, TopLayer: "top"})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SetImageBigData(context.Background(), "img", "manifest", []byte("{}"), ""); err != nil {
				t.Fatal(err)
			}
		},
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.DeleteImage(ctx, "img", true)
			return unless(err, errdefs.ErrNotFound)
		},
	},
	"delete a container": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			image(t, s)
			ctx := context.Background()
			if _, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id("box"), Names: []string{"box"}, Image: "img"}); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []func(context.Context, string) (string, error){s.ContainerDirectory, s.ContainerRunDirectory} {
				path, err := dir(ctx, "box")
				if err != nil {
					t.Fatal(err)
				}
				testutil.Tree(t, path, "file=content")
			}
			if _, err := s.Mount(ctx, "box", store.MountOptions{}); err != nil {
				t.Fatal(err)
			}
		},
		do: func(ctx context.Context, s *store.Store) error {
			return unless(s.DeleteContainer(ctx, "box"), errdefs.ErrNotFound)
		},
		must: []string{id("base")},
	},
	"create a container with owners mapped on disk": {
		set: func(cfg *config.Config) { cfg.Overlay.DisableIDMap = true },
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			image(t, s)
		},
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id("box"), Image: "img", IDMap: shifted(100000)})
			return unless(err, errdefs.ErrDuplicateID)
		},
		must: []string{id("base")},
	},
	"mount": {
		prepare: base,
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.Mount(ctx, "base", store.MountOptions{})
			return err
		},
		must: []string{id("base")},
	},
	"unmount": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			if _, err := s.Mount(context.Background(), "base", store.MountOptions{}); err != nil {
				t.Fatal(err)
			}
		},
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.Unmount(ctx, "base", false)
			return err
		},
		must: []string{id("base")},
	},
	"remove incomplete layers": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			for _, word := range []string{"dead1", "dead2", "dead3"} {
				importLayer(t, s, id(word), "base", killTar(), word)
			}
			importLayer(t, s, id("alive"), "base", killTar(), "alive")
			markIncomplete(t, cfg, id("dead1"), id("dead2"), id("dead3"))
		},
		do: func(ctx context.Context, s *store.Store) error {
			return s.SetMetadata(ctx, "base", "changed")
		},
		must: []string{id("base"), id("alive")},
	},
	"collect garbage": {
		prepare: func(t *testing.T, cfg config.Config, s *store.Store) {
			base(t, cfg, s)
			importLayer(t, s, id("lost"), "", killTar(), "lost")
			dropRecord(t, cfg, id("lost"))
			testutil.Tree(t, cfg.GraphRoot, "overlay-images/"+id("nobody")+"/manifest={}", "overlay-containers/.tmp-containers.json123=[",
				"overlay/tempdirs/temp-dir-7/0-addition/diff/file=x", "overlay-layers/tmp/lock-8=", "overlay-layers/keepme/file=x")
		},
		do: func(ctx context.Context, s *store.Store) error {
			_, err := s.GC(ctx, store.GCOptions{})
			return err
		},
		must: []string{id("base")},
	},
}

func base(t *testing.T, _ config.Config, s *store.Store) {
	importLayer(t, s, id("base"), "", layerTar(t, "etc/", "etc/hosts", "bin/", "bin/sh"), "base")
}

func image(t *testing.T, s *store.Store) {
	if _, err := s.CreateImage(context.Background(), store.ImageOptions{ID: id("img"), Names: []string{"img"}, TopLayer: "base"}); err != nil {
		t.Fatal(err)
	}
}

// unless forgives an error that says that an earlier try had come far enough.
func unless(err, class error) error {
	if errors.Is(err, class) {
		return nil
	}
	return err
}

// records is the catalog of layers as another program might open it.
func records(cfg config.Config) *catalog.Catalog[layers.Layer] {
	dir := filepath.Join(cfg.GraphRoot, cfg.Driver+"-layers")
	return catalog.New(catalog.Schema[layers.Layer]{Kind: "layer", ID: func(l *layers.Layer) string { return l.ID }},
		filepath.Join(dir, "layers.lock"), catalog.File{Path: filepath.Join(dir, "layers.json")})
}

// markIncomplete does what containers/storage does before it deletes layers, or creates them.
func markIncomplete(t *testing.T, cfg config.Config, ids ...string) {
	t.Helper()
	err := records(cfg).Update(context.Background(), func(tx *catalog.WriteTx[layers.Layer]) error {
		for _, id := range ids {
			l, err := tx.Get(id)
			if err != nil {
				return err
			}
			l.Flags = map[string]any{"incomplete": true}
			if err := tx.Replace(l); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dropRecord takes a record out and leaves the layer's files.
func dropRecord(t *testing.T, cfg config.Config, id string) {
	t.Helper()
	err := records(cfg).Update(context.Background(), func(tx *catalog.WriteTx[layers.Layer]) error { return tx.Remove(id) })
	if err != nil {
		t.Fatal(err)
	}
}

// killed is what a child does instead of running tests: the work that it is told, until the step at which it kills itself. Without such a step it
// prints the names of those that there are.
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

// child runs a work in a process of its own, which dies at step number at, or doesn't when at is 0.
func child(t *testing.T, cfg config.Config, name string, at int) (steps []string, dead bool) {
	t.Helper()
	roots, err := json.Marshal(config.Config{GraphRoot: cfg.GraphRoot, RunRoot: cfg.RunRoot, Driver: cfg.Driver, Overlay: cfg.Overlay})
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

// Every operation is killed at every one of its steps. Then the store must open as if nothing had happened: what was there before is there, what
// is listed is whole, and only what garbage collection knows is left over. The operation, tried again, succeeds.
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
					if took, dead := child(t, cfg, name, at); !dead && work.parallel && len(took) < at {
						t.Skipf("done in %d steps", len(took))
					} else if !dead {
						t.Fatal("the child lived on")
					}
					s := open(t, cfg)
					whole(t, s, work.must)
					if err := work.do(context.Background(), s); err != nil {
						t.Fatalf("tried again: %v", err)
					}
					whole(t, s, work.must)
					if _, err := s.GC(context.Background(), store.GCOptions{}); err != nil {
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

// whole fails the test unless all of the layers exist, and every layer that exists can be mounted and gives the tar it was made from.
func whole(t *testing.T, s *store.Store, must []string) {
	t.Helper()
	ctx := context.Background()
	all, err := s.Layers(ctx)
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
			r, err := s.LayerBigData(ctx, l.ID, key)
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
	images, err := s.Images(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		if !slices.Contains(ids, i.TopLayer) {
			t.Fatalf("image %s has lost its layer", i.ID)
		}
		for _, key := range i.BigDataNames {
			if _, err := s.ImageBigData(ctx, i.ID, key); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// nothingElse looks with other eyes than garbage collection: it fails the test if there is any file that it can't account for.
func nothingElse(t *testing.T, cfg config.Config, s *store.Store) {
	t.Helper()
	all, err := s.Layers(context.Background())
	if err := errors.Join(err, s.Wait(context.Background())); err != nil {
		t.Fatal(err)
	}
	expected := map[string]bool{"l": true, "tempdirs": true, "layers.json": true, "volatile-layers.json": true, "layers.lock": true, "tmp": true,
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
			if !expected[e.Name()] && !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".tmp-") || strings.HasPrefix(e.Name(), "lock-") {
				t.Errorf("left over: %s/%s", dir, e.Name())
			}
		}
	}
}
