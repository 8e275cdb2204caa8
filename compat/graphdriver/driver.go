package graphdriver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/config/storageconf"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay"
	"github.com/shalestore/shale/drivers/vfs"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/store"
	graphdriver "go.podman.io/storage/drivers"
)

// Overlay opens Shale's overlay driver. It is a graphdriver.InitFunc, to be registered as
// "overlay", and as "overlay2" for those who still write that.
func Overlay(home string, options graphdriver.Options) (graphdriver.Driver, error) {
	return open(overlay.Name, home, options)
}

// VFS opens Shale's vfs driver. It is a graphdriver.InitFunc, to be registered as "vfs".
func VFS(home string, options graphdriver.Options) (graphdriver.Driver, error) {
	return open(vfs.Name, home, options)
}

// driver is a Driver of ours behind the methods of theirs. Some of these have types that
// no other module can name; but a type parameter can stand for them, which newDriver has
// inferred. Cleanup is their func() error, and Staged their struct that holds a path.
//
// Their interface has no contexts: nothing that runs can be cancelled.
type driver[Cleanup ~func() error, Staged ~struct{ Path string }] struct {
	settings
	mounts mountCounts

	mu     sync.Mutex
	staged map[string]drivers.Staged // by the path of what was unpacked; see StartStagingDiffToApply
	pulls  map[string]drivers.Pull   // by the path of what a differ has filled; see ApplyDiffWithDiffer
}

type settings struct {
	own   drivers.Driver
	apply apply.Options
	// homes are the driver's directories; the graph root's first, then the image store's
	// if there is one.
	homes  []string
	others []string // the roots of additional image stores
}

// open finds settings and driver as a store of Shale does.
func open(name, home string, options graphdriver.Options) (graphdriver.Driver, error) {
	d, err := openOwn(name, home, options)
	if err != nil {
		return nil, fmt.Errorf("open Shale's %s driver: %w", name, translate(err))
	}
	return d, nil
}

func openOwn(name, home string, options graphdriver.Options) (graphdriver.Driver, error) {
	root, base := filepath.Split(home)
	if base != name && !(base == "overlay2" && name == overlay.Name) {
		return nil, fmt.Errorf("directory %s: %w: it isn't called %s, as every program that reads this store expects",
			home, errdefs.ErrInvalid, name)
	}
	cfg, err := storageconf.Load(storageconf.Overrides{
		GraphRoot: filepath.Clean(root), RunRoot: options.RunRoot, ImageStore: options.ImageStore,
		Driver: name, Options: options.DriverOptions, Strict: true,
	})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	own, apply, err := store.OpenDriver(ctx, cfg.Config)
	if err != nil {
		return nil, err
	}
	if recoverer, ok := own.(drivers.Recoverer); ok {
		if err := recoverer.Recover(ctx); err != nil {
			return nil, errors.Join(err, own.Close())
		}
	}
	if homer, ok := own.(drivers.MountHome); ok {
		// The library holds storage.lock, as PrepareHome demands.
		if err := homer.PrepareHome(ctx); err != nil {
			return nil, errors.Join(err, own.Close())
		}
	}
	homes := []string{filepath.Join(cfg.GraphRoot, name)}
	if cfg.ImageStore != "" {
		homes = append(homes, filepath.Join(cfg.ImageStore, name))
	}
	return newDriver(graphdriver.ProtoDriver.DeferredRemove, graphdriver.ApplyDiffStaging.CommitStagedLayer,
		settings{own, apply, homes, cfg.AdditionalImageStores})
}

// newDriver makes a driver whose methods have exactly the types of the two method
// expressions. If a later release of the library changes its interfaces this fails when
// the driver is opened, which the tests do.
func newDriver[Cleanup ~func() error, Staged ~struct{ Path string }](
	_ func(graphdriver.ProtoDriver, string) (Cleanup, error),
	_ func(graphdriver.ApplyDiffStaging, string, *Staged) error,
	s settings,
) (graphdriver.Driver, error) {
	var d any = &driver[Cleanup, Staged]{settings: s, staged: map[string]drivers.Staged{},
		pulls: map[string]drivers.Pull{}}
	if _, ok := d.(graphdriver.ApplyDiffStaging); !ok {
		return nil, fmt.Errorf("this release of go.podman.io/storage: %w: ApplyDiffStaging isn't what it was",
			errdefs.ErrUnsupported)
	}
	theirs, ok := d.(graphdriver.AdditionalLayerStoreDriver)
	if !ok {
		return nil, fmt.Errorf("this release of go.podman.io/storage: %w: Driver isn't what it was",
			errdefs.ErrUnsupported)
	}
	return theirs, nil
}

// translate gives our errors the classes by which the library knows them.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errdefs.ErrNotFound):
		return errors.Join(err, graphdriver.ErrLayerUnknown, fs.ErrNotExist)
	case errors.Is(err, errdefs.ErrUnsupported):
		return fmt.Errorf("%w: %w", graphdriver.ErrNotSupported, err)
	}
	return err
}

// String is the driver's name.
func (d *driver[Cleanup, Staged]) String() string { return d.own.Name() }
