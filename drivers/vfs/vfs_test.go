package vfs_test

import (
	"errors"
	"os/exec"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/drivertest"
	"github.com/shalestore/shale/drivers/vfs"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

func open(t testing.TB, at drivers.Place) drivers.Driver {
	t.Helper()
	d, err := vfs.Open(t.Context(), vfs.Options{Place: at})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestContract(t *testing.T) {
	drivertest.Run(t, drivertest.Suite{Open: open})
}

func TestContractInUserNamespace(t *testing.T) {
	if !testutil.InUserNS(t) {
		return
	}
	drivertest.Run(t, drivertest.Suite{Open: open})
}

func BenchmarkDriver(b *testing.B) {
	drivertest.Bench(b, drivertest.Suite{Open: open})
}

// A layer of ours is a layer of containers/storage's, down to modes and owners, and the
// other way round.
func TestLayoutIsThePeers(t *testing.T) {
	testutil.Root(t)
	theirs, ours := t.TempDir(), t.TempDir()
	peer := func(args ...string) {
		t.Helper()
		args = append([]string{"--graph", theirs + "/root", "--run", theirs + "/run", "--storage-driver", "vfs"},
			args...)
		if out, err := exec.Command(testutil.Peer(t), args...).CombinedOutput(); err != nil {
			t.Fatalf("containers-storage %q: %v\n%s", args, err, out)
		}
	}
	peer("create-layer", "-i", "base")
	peer("create-layer", "-i", "top", "base")
	d := open(t, drivers.Place{Root: ours + "/root"})
	create(t, d, "base", "")
	create(t, d, "top", "base")
	snapshot := func(root string) map[string]string {
		return testutil.Without(testutil.Snapshot(t, root+"/root/vfs/dir"), "mtime")
	}
	testutil.SameTree(t, snapshot(theirs), snapshot(ours))

	testutil.Tree(t, theirs, "root/vfs/dir/top/file=1 0640 1:2 @1600000000.25")
	d = open(t, drivers.Place{Root: theirs + "/root"})
	create(t, d, "ours", "top")
	want, got := testutil.Snapshot(t, theirs+"/root/vfs/dir/top"), testutil.Snapshot(t, theirs+"/root/vfs/dir/ours")
	testutil.SameTree(t, want, got)
}

func create(t *testing.T, d drivers.Driver, id, parent string) {
	t.Helper()
	s, err := d.Stage(t.Context(), parent, drivers.StageOptions{})
	if err == nil {
		err = s.Commit(t.Context(), id)
	}
	if err == nil {
		err = s.Discard()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestOptionsThatNeedAMount(t *testing.T) {
	testutil.Root(t)
	d := open(t, drivers.Place{Root: t.TempDir()})
	create(t, d, "base", "")
	if specs, err := d.Mounts(t.Context(), "base", drivers.MountOptions{Options: []string{"ro"}}); err != nil ||
		len(specs) > 0 {
		t.Errorf("ro: %v, %v", specs, err)
	}
	if _, err := d.Mounts(t.Context(), "base", drivers.MountOptions{Options: []string{"nodev"}}); !errors.Is(err,
		errdefs.ErrUnsupported) {
		t.Errorf("nodev: %v", err)
	}
}
