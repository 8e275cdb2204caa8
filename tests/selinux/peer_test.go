package selinux

import (
	"encoding/json"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
)

// Each tool mounts the other's container with the label that it was made with, and
// neither gives away categories the other has given.
func TestSELinuxBesideThePeer(t *testing.T) {
	testutil.SELinux(t)
	dir := t.TempDir()
	t.Cleanup(func() { testutil.UnmountBelow(dir) })
	root := harness.NewRoot(dir)
	tools := []harness.Tool{harness.Shale(t), harness.Peer(t)}
	levels := map[string]bool{}
	for i, maker := range tools {
		other := tools[1-i]
		base := root.Must(t, maker, "create-layer")
		image := root.Must(t, maker, "create-image", base)
		id := root.Must(t, maker, "create-container", image)
		var found []struct {
			Flags struct{ MountLabel, ProcessLabel string }
		}
		out := root.Must(t, other, "container", "--json", id)
		if err := json.Unmarshal([]byte(out), &found); err != nil || len(found) != 1 {
			t.Fatalf("%s of %s's container: %v: %s", other.Name, maker.Name, err, out)
		}
		label := found[0].Flags.MountLabel
		if level(label) == "" || levels[level(label)] {
			t.Errorf("%s's container has the label %q", maker.Name, label)
		}
		levels[level(label)] = true
		for _, mounter := range tools {
			if got := labelOf(t, root.Must(t, mounter, "mount", id)); got != label {
				t.Errorf("%s's container mounted by %s: label %s, want %s", maker.Name, mounter.Name, got, label)
			}
			root.Must(t, mounter, "unmount", id)
		}
	}
}
