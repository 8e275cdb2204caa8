package fsck_test

import (
	"context"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/tests/storetest"
)

func TestMain(m *testing.M) {
	if !storetest.Killed(map[string]func(context.Context, *store.Store) error{repairWork: repairByForce}) {
		testutil.Main(m)
	}
}

// What tests make and look at stores with, by short names.
var (
	roots         = storetest.Roots
	open          = storetest.Open
	id            = storetest.ID
	layerTar      = storetest.LayerTar
	importLayer   = storetest.Import
	export        = storetest.Export
	noGarbage     = storetest.NoGarbage
	whole         = storetest.Whole
	allLayers     = storetest.Layers
	allImages     = storetest.Images
	allContainers = storetest.Containers
	findLayer     = storetest.Layer
	findImage     = storetest.Image
)
