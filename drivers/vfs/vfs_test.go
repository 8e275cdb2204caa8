package vfs_test

import (
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/drivertest"
	"github.com/shalestore/shale/drivers/vfs"
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
