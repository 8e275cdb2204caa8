// Package drivertest is the contract of drivers.Driver as tests and benchmarks that any
// driver can run:
//
//	func TestContract(t *testing.T) {
//		drivertest.Run(t, drivertest.Suite{Open: func(t testing.TB, at drivers.Place) drivers.Driver { … }})
//	}
//
// The tests mount if the driver does, so they run as root or as root of a user namespace.
package drivertest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
)

// Suite says which driver is to be tested.
type Suite struct {
	// Open opens the driver at a place, whose directories may exist with layers in them.
	// It fails the test when it can't.
	Open func(t testing.TB, at drivers.Place) drivers.Driver
	// Depth is how many layers the deep test stacks; 0 means 20.
	Depth int
}

// Run runs all tests of the contract, each on a store of its own.
func Run(t *testing.T, s Suite) {
	for _, test := range []struct {
		name string
		run  func(*bench)
	}{
		{"EmptyLayer", emptyLayer},
		{"BaseLayerKeepsEverything", baseLayer},
		{"StackedLayers", stackedLayers},
		{"RootDirectoryIsInherited", inheritedRoot},
		{"RootIsMapped", mappedRoot},
		{"DeepStack", deepStack},
		{"ContentOfAnotherLayer", template},
		{"Replace", replace},
		{"ReadOnlyMount", readOnlyMount},
		{"RemountKeepsWrites", remount},
		{"Delete", deleteLayer},
		{"Usage", usage},
		{"Footprint", footprint},
		{"OpenedAgain", openedAgain},
		{"CommitOverLeftovers", leftovers},
		{"ParentGone", parentGone},
		{"Discard", discard},
		{"NeverCommittedTwice", committedTwice},
		{"RecoverSparesTheLiving", recoverSpares},
		{"UnknownLayers", unknownLayers},
		{"HostileIDs", hostileIDs},
		{"Cancelled", cancelled},
		{"Concurrently", concurrently},
		{"Status", status},
		{"Home", home},
	} {
		t.Run(test.name, func(t *testing.T) {
			testutil.Root(t)
			test.run(newBench(t, s))
		})
	}
}

// bench is a store with a driver on it, and what tests do with it.
type bench struct {
	testing.TB
	ctx    context.Context
	suite  Suite
	place  drivers.Place
	driver drivers.Driver
}

func newBench(t testing.TB, s Suite) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{TB: t, ctx: context.Background(), suite: s, place: drivers.Place{Root: filepath.Join(dir, "root"),
		RunRoot: filepath.Join(dir, "run")}}
	t.Cleanup(func() {
		if err := testutil.UnmountBelow(dir); err != nil {
			t.Error(err)
		}
	})
	b.driver = b.open()
	return b
}

// open opens a driver at the bench's place, as another process would.
func (b *bench) open() drivers.Driver {
	b.Helper()
	d := b.suite.Open(b, b.place)
	b.Cleanup(func() { b.must(d.Close()) })
	return d
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) wantError(err, class error, what string) {
	b.Helper()
	if !errors.Is(err, class) {
		b.Errorf("%s: got %v, want %v", what, err, class)
	}
}

// stage begins a layer and puts files into it.
func (b *bench) stage(parent string, opts drivers.StageOptions, tree ...string) drivers.Staged {
	b.Helper()
	s, err := b.driver.Stage(b.ctx, parent, opts)
	b.must(err)
	b.Cleanup(func() { b.must(s.Discard()) })
	testutil.Tree(b, s.Content(), tree...)
	return s
}

// create makes a layer with these files.
func (b *bench) create(id, parent string, tree ...string) {
	b.Helper()
	b.commit(b.stage(parent, drivers.StageOptions{}, tree...), id)
}

func (b *bench) commit(s drivers.Staged, id string) {
	b.Helper()
	b.must(s.Commit(b.ctx, id))
	b.must(s.Discard())
}

// remove deletes a layer and empties the trash.
func (b *bench) remove(id string) {
	b.Helper()
	trash, err := b.driver.Delete(b.ctx, id)
	b.must(err)
	b.must(trash.Empty(b.ctx))
}

func (b *bench) stat(id string) drivers.Info {
	b.Helper()
	info, err := b.driver.Stat(b.ctx, id)
	b.must(err)
	return info
}

// mounted mounts a layer and returns where; unmount ends it.
func (b *bench) mounted(id string, opts drivers.MountOptions) (path string, unmount func()) {
	b.Helper()
	if h, ok := b.driver.(drivers.MountHome); ok {
		b.must(h.PrepareHome(b.ctx))
	}
	specs, err := b.driver.Mounts(b.ctx, id, opts)
	b.must(err)
	info := b.stat(id)
	if len(specs) == 0 && info.MountPoint != info.Content {
		b.Fatalf("layer %s needs no mount, so its mount point %s must be its content %s", id, info.MountPoint,
			info.Content)
	}
	for _, spec := range specs {
		b.must(mount.Perform(b.ctx, spec))
	}
	return info.MountPoint, func() {
		b.Helper()
		for _, spec := range slices.Backward(specs) {
			b.must(mount.Unmount(spec.Target))
		}
		if a, ok := b.driver.(drivers.MountHome); ok && len(specs) > 0 {
			b.must(a.Unmounted(b.ctx, id))
		}
	}
}

// tree describes the layer as it looks when mounted.
func (b *bench) tree(id string) map[string]string {
	b.Helper()
	path, unmount := b.mounted(id, drivers.MountOptions{})
	defer unmount()
	return testutil.Snapshot(b, path)
}

// exists fails the test unless each path does, or with a leading "!" doesn't.
func (b *bench) exists(dir string, paths ...string) {
	b.Helper()
	for _, path := range paths {
		want := path[0] != '!'
		if !want {
			path = path[1:]
		}
		if _, err := os.Lstat(filepath.Join(dir, path)); (err == nil) != want {
			b.Errorf("%s: should exist: %t; is: %v", path, want, err)
		}
	}
}

// layers fails the test unless the driver lists exactly these.
func (b *bench) layers(want ...string) {
	b.Helper()
	got, err := b.driver.List(b.ctx)
	b.must(err)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		b.Errorf("layers %v, want %v", got, want)
	}
}

// unknown fails the test unless the layer is not known.
func (b *bench) unknown(id string) {
	b.Helper()
	_, err := b.driver.Stat(b.ctx, id)
	b.wantError(err, errdefs.ErrNotFound, "stat "+id)
}
