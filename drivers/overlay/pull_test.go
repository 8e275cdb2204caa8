package overlay_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/examine"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
)

// A partial pull takes a layer's place in one rename. Until then it is spared by whoever
// cleans up, and afterwards nothing is left of it.
func TestPartialPull(t *testing.T) {
	testutil.Root(t)
	root, d := freshStore(t)
	ctx := t.Context()
	staging := filepath.Join(root, "overlay/staging")
	must(t, os.Chmod(filepath.Join(root, "overlay/child/diff"), 0o711))
	p, err := d.StagePull(ctx, drivers.StageOptions{})
	must(t, err)
	testutil.Tree(t, p.Content(), "pulled=1")
	stale, err := examine.Of(open(t, place(root))).StalePulls(ctx)
	must(t, errors.Join(err, examine.Of(d).SweepPulls(ctx)))
	if len(stale) > 0 || filepath.Dir(p.Content()) != p.Scratch() || filepath.Dir(p.Scratch()) != staging {
		t.Errorf("stale: %q; content %s, scratch %s", stale, p.Content(), p.Scratch())
	}
	if _, err := p.Install(ctx, "nobody", false); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("into no layer: %v", err)
	}
	trash, err := p.Install(ctx, "child", false)
	must(t, err)
	must(t, p.Discard())
	diff := filepath.Join(root, "overlay/child/diff")
	if st, err := os.Stat(diff); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("the root directory: %v (%v)", st, err)
	}
	for name, want := range map[string]bool{"pulled": true, "new": false} {
		if _, err := os.Lstat(filepath.Join(diff, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.Install(ctx, "child", false); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("twice: %v", err)
	}
	must(t, trash.Empty(ctx))
	must(t, trash.Empty(ctx))
	if left, err := os.ReadDir(staging); err != nil || len(left) > 0 {
		t.Errorf("left in staging: %v (%v)", left, err)
	}

	p, err = d.StagePull(ctx, drivers.StageOptions{})
	must(t, err)
	must(t, errors.Join(p.Discard(), p.Discard()))
	if left, err := os.ReadDir(staging); err != nil || len(left) > 0 {
		t.Errorf("left in staging after a discard: %v (%v)", left, err)
	}
}
