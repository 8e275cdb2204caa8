package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"github.com/shalestore/shale/tests/storetest"
)

func (w work) roots(t *testing.T) config.Config {
	cfg := roots(t)
	if w.set != nil {
		w.set(&cfg)
	}
	return cfg
}

// Every operation is killed at every one of its steps. Then the store must open as if
// nothing had happened: what was there before is there, what is listed is whole, and only
// what garbage collection knows is left over. The operation, tried again, succeeds. An
// ordinary run takes a sample of the steps.
func TestKilledAtEachStep(t *testing.T) {
	for name, work := range works {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := work.roots(t)
			work.prepare(t, cfg, open(t, cfg))
			steps, _ := storetest.Child(t, cfg, name, 0)
			t.Logf("%d steps: %s", len(steps), strings.Join(steps, ", "))
			if len(steps) < 2 {
				t.Fatal("no steps to be killed at")
			}
			tried := testutil.Sample(t)
			for at := 1; at <= len(steps); at++ {
				if !tried(at) {
					continue
				}
				t.Run(fmt.Sprintf("%d %s", at, steps[at-1]), func(t *testing.T) {
					cfg := work.roots(t)
					work.prepare(t, cfg, open(t, cfg))
					if _, dead := storetest.Child(t, cfg, name, at); !dead {
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
