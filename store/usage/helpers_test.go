package usage_test

import (
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/storetest"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// What tests make and look at stores with, by short names.
var (
	roots       = storetest.Roots
	open        = storetest.Open
	id          = storetest.ID
	writeTar    = storetest.WriteTar
	layerTar    = storetest.LayerTar
	importLayer = storetest.Import
	noGarbage   = storetest.NoGarbage
	change      = storetest.Change
)
