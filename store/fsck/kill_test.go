package fsck_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"github.com/shalestore/shale/tests/storetest"
)

// repairWork is what a child is told to do to repair a store.
const repairWork = "repair"

func repairByForce(ctx context.Context, s *store.Store) error {
	report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
	if err != nil {
		return err
	}
	done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{Force: true})
	if err == nil && !done.Left.Empty() {
		err = fmt.Errorf("left: %v", done.Left.Findings)
	}
	return err
}

// A repair that is killed, at whichever step, leaves a store that the next one finishes;
// what was to be kept is kept. An ordinary run takes a sample of the steps.
func TestRepairKilledAtEachStep(t *testing.T) {
	for _, name := range []string{
		"mode changed",                      // unpacked again from its own tar
		"file edited, with a twin",          // from another layer
		"directory gone, with a twin",       // into a place that has none
		"short name leads to another layer", // small files, of several layers
		"layers.json cut",                   // salvaged, and records made again
		"file edited",                       // deleted, with all that stands on it
		"parents in a circle",               // the record corrected
		"manifest edited",                   // restored
		"layer without a record",            // garbage
	} {
		w := wounds[slices.IndexFunc(wounds, func(w wound) bool { return w.name == name })]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wounded := func(t *testing.T) (p *patient, before []string) {
				p = newPatient(t, "overlay")
				before = p.objects(p.open())
				w.do(p)
				return p, before
			}
			p, _ := wounded(t)
			steps, _ := storetest.Child(t, p.cfg, repairWork, 0)
			t.Logf("%d steps: %s", len(steps), strings.Join(steps, ", "))
			tried := testutil.Sample(t)
			for at := range steps {
				if !tried(at) {
					continue
				}
				p, before := wounded(t)
				if _, dead := storetest.Child(t, p.cfg, repairWork, at+1); !dead {
					t.Fatal("the child lived on")
				}
				s := p.open()
				if err := repairByForce(context.Background(), s); err != nil {
					t.Fatalf("killed at %q: %v", steps[at], err)
				}
				noGarbage(t, p.open())
				want := slices.DeleteFunc(before, func(o string) bool { return slices.Contains(w.lost, o) })
				if got := p.objects(s); !slices.Equal(got, want) {
					t.Errorf("killed at %q: there are\n%v, want\n%v", steps[at], got, want)
				}
				whole(t, s, nil)
			}
		})
	}
}
