package store_test

import (
	"context"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/tests/storetest"
)

func TestMain(m *testing.M) {
	do := map[string]func(context.Context, *store.Store) error{}
	for name, work := range works {
		do[name] = work.do
	}
	if storetest.Killed(do) {
		return
	}
	testutil.MainAsRoot(m)
}

// How tests delete.
var plainly, byForce = store.DeleteOptions{}, store.DeleteOptions{Force: true}

// What tests make and look at stores with, by short names.
var (
	roots         = storetest.Roots
	open          = storetest.Open
	id            = storetest.ID
	layerTar      = storetest.LayerTar
	writeTar      = storetest.WriteTar
	importLayer   = storetest.Import
	export        = storetest.Export
	noGarbage     = storetest.NoGarbage
	whole         = storetest.Whole
	isMounted     = storetest.IsMounted
	change        = storetest.Change
	allLayers     = storetest.Layers
	allContainers = storetest.Containers
	findLayer     = storetest.Layer
	findImage     = storetest.Image
	findContainer = storetest.Container
	lookUp        = storetest.Lookup
	timesMounted  = storetest.TimesMounted
	layerData     = storetest.LayerData
	imageData     = storetest.ImageData
	containerData = storetest.ContainerData
)

func look[T any](s *store.Store, find func(*store.ReadTx) (T, error)) (T, error) {
	return storetest.Look(s, find)
}
