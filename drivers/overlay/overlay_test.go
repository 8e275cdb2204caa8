package overlay_test

import (
	"os"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/drivertest"
	"github.com/shalestore/shale/drivers/overlay"
	"github.com/shalestore/shale/internal/testutil"
)

func TestMain(m *testing.M) {
	if orders := os.Getenv(crashVariable); orders != "" {
		crash(orders)
	}
	if root := os.Getenv(limitedVariable); root != "" {
		makeLimited(root)
	}
	testutil.Main(m)
}

func open(t testing.TB, at drivers.Place) drivers.Driver {
	t.Helper()
	d, err := overlay.Open(t.Context(), overlay.Options{Place: at})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestContract(t *testing.T) {
	drivertest.Run(t, drivertest.Suite{Open: open, Depth: 500})
}

func TestContractInUserNamespace(t *testing.T) {
	if !testutil.InUserNS(t) {
		return
	}
	drivertest.Run(t, drivertest.Suite{Open: open})
}

// asUser runs a test as an ordinary user's root: one ID, no privilege on the host.
func asUser(t *testing.T) bool {
	t.Helper()
	inside := os.Getuid() == 0 && !testutil.OnHost()
	return (inside || testutil.AsUser(t)) && testutil.InUserNS(t)
}

func TestContractAsOrdinaryUser(t *testing.T) {
	if !asUser(t) {
		return
	}
	drivertest.Run(t, drivertest.Suite{Open: open})
}

func BenchmarkDriver(b *testing.B) {
	drivertest.Bench(b, drivertest.Suite{Open: open, Depth: 500})
}
