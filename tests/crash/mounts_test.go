package crash

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/harness"
)

// cycle is the life of one container, any command of which may be killed.
type cycle struct {
	*testing.T
	root  harness.Root
	tool  harness.Tool
	name  string
	kills int
	delay func() (time.Duration, bool) // when to kill a command, if at all
}

// try runs a command, perhaps not to its end, and returns its output if it came to that.
func (c *cycle) try(args ...string) string {
	c.Helper()
	cmd := c.root.Command(c.Context(), c.tool, args...)
	var said, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &complaint
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	if after, kill := c.delay(); kill {
		timer := time.AfterFunc(after, func() { harness.Kill(cmd) })
		defer timer.Stop()
	}
	err := cmd.Wait()
	switch {
	case err == nil:
		return strings.TrimSpace(said.String())
	case cmd.ProcessState.ExitCode() < 0:
		c.kills++
	case c.kills == 0: // after a kill there may be no container, or no mount
		c.Errorf("%v: %v: %s", args, err, complaint.String())
	}
	return ""
}

// live makes a container, mounts it once or twice, writes, unmounts and deletes it.
func (c *cycle) live(how []string, twice bool) {
	c.Helper()
	c.try(append(append([]string{"create-container", "--name", c.name}, how...), "image")...)
	if dir := c.try("mount", c.name); filepath.IsAbs(dir) {
		if err := os.WriteFile(filepath.Join(dir, "written"), []byte(c.name), 0o644); err != nil {
			c.Errorf("%s says that it is mounted: %v", c.name, err)
		}
	}
	if twice {
		c.try("mount", c.name)
		c.try("unmount", c.name)
	}
	c.try("unmount", c.name)
	c.try("delete-container", c.name)
}

// bury does what an administrator would: whatever is left of the container goes.
func (c *cycle) bury() {
	c.Helper()
	_, err := c.root.Do(c.Context(), c.tool, "delete-container", c.name)
	var answer *harness.Error
	if err != nil && !errors.As(err, &answer) {
		c.Fatal(err)
	}
	if out, err := c.root.Do(c.Context(), c.tool, "exists", "--container", c.name); err == nil {
		c.Errorf("%s can't be deleted: %v %s", c.name, answer, out)
	}
}

// Containers live and are killed at random moments, with their owners translated while
// mounting, translated on disk, and not at all. However that goes, deleting what is left
// and collecting garbage leaves no mount.
func TestNoMountIsLeft(t *testing.T) {
	testutil.HostRoot(t)
	cycles := testutil.Count(t, "SHALE_CYCLES", 30, 500)
	dir, chance := t.TempDir(), newRand(t)
	root, tool := harness.NewRoot(dir), harness.Shale(t)
	t.Cleanup(func() {
		if err := testutil.UnmountBelow(dir); err != nil {
			t.Error(err)
		}
	})
	layer := harness.SmallArchive(t, dir, "layer", 20, 1000)
	root.Must(t, tool, "import-layer", "--name", "layer", "--file", layer.Path)
	root.Must(t, tool, "create-image", "--name", "image", "layer")
	kills := 0
	for n := range cycles {
		c := &cycle{T: t, root: root, tool: tool, name: fmt.Sprintf("box%d", n)}
		c.delay = func() (time.Duration, bool) {
			return time.Duration(chance.Int64N(int64(15 * time.Millisecond))), chance.IntN(3) == 0
		}
		var how []string
		if chance.IntN(2) == 0 {
			first := 100000 * (1 + chance.IntN(3))
			how = []string{"--uidmap", fmt.Sprintf("0:%d:65536", first), "--gidmap", fmt.Sprintf("0:%d:65536", first)}
		}
		if chance.IntN(4) == 0 {
			t.Setenv("_CONTAINERS_OVERLAY_DISABLE_IDMAP", "yes")
		} else {
			t.Setenv("_CONTAINERS_OVERLAY_DISABLE_IDMAP", "")
		}
		c.live(how, chance.IntN(3) == 0)
		c.bury()
		kills += c.kills
		if n%10 == 9 || n == cycles-1 {
			root.Must(t, tool, "gc")
			if left, err := testutil.MountsBelow(dir); err != nil || len(left) > 0 {
				t.Fatalf("after %d cycles and %d kills: left mounted: %q (%v)", n+1, kills, left, err)
			}
		}
	}
	t.Logf("%d cycles, %d kills", cycles, kills)
	root.Must(t, tool, "check")
	if kills == 0 {
		t.Error("nothing was killed")
	}
}
