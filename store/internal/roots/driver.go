package roots

import (
	"context"
	"errors"
	"fmt"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay"
	"github.com/shalestore/shale/drivers/vfs"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/quota"
)

// openDriver picks the driver for the roots in cfg and opens it; others are the roots of
// read-only stores. This is where the list of drivers stands.
func openDriver(ctx context.Context, cfg config.Config, others []string) (drivers.Driver, error) {
	var layerStores []overlay.LayerStore
	for _, ls := range cfg.AdditionalLayerStores {
		layerStores = append(layerStores, overlay.LayerStore(ls))
	}
	registry := drivers.NewRegistry(
		overlay.Factory(overlay.Options{
			MountOptions:  cfg.Overlay.MountOptions,
			SkipMountHome: cfg.Overlay.SkipMountHome,
			ForceMask:     cfg.Overlay.ForceMask,
			MountProgram:  cfg.Overlay.MountProgram,
			FindProgram:   cfg.Overlay.FindMountProgram,
			StartProgram:  cfg.Overlay.StartMountProgram,
			UseComposefs:  cfg.Overlay.UseComposefs,
			DisableIDMap:  cfg.Overlay.DisableIDMap,
			Limits:        quota.Limits{Bytes: cfg.Overlay.Size, Inodes: cfg.Overlay.Inodes},

			AdditionalLayerStores: layerStores,
		}),
		vfs.Factory(vfs.Options{}),
	)
	driver, err := registry.Choose(ctx,
		drivers.Choice{Name: cfg.Driver, Priority: cfg.DriverPriority},
		drivers.Place{Root: cfg.GraphRoot, RunRoot: cfg.RunRoot, ImageStore: cfg.ImageStore, ReadOnly: others})
	if err != nil {
		return nil, err
	}
	if _, ok := driver.(drivers.AdditionalLayers); !ok && len(layerStores) > 0 {
		return nil, errors.Join(errdefs.Unsupported{Setting: "additionallayerstores",
			By: "by the " + driver.Name() + " driver"}, driver.Close())
	}
	return driver, nil
}

// applyOptions says how the driver wants to find what a tar holds.
func applyOptions(cfg config.Config, driver drivers.Driver) (apply.Options, error) {
	switch driver.Name() {
	case overlay.Name:
		opts := apply.Options{
			IgnoreChownErrors: cfg.Overlay.IgnoreChownErrors,
			Whiteouts:         archive.OverlayTrusted,
		}
		if d, ok := driver.(*overlay.Driver); ok {
			opts.ForceMask = d.ForceMask()
			if d.MountProgram() != "" {
				opts.Whiteouts = archive.LiteralWhiteouts
			} else if d.UserXattr() {
				opts.Whiteouts = archive.OverlayUser
			}
		}
		return opts, nil
	case vfs.Name:
		return apply.Options{IgnoreChownErrors: cfg.VFS.IgnoreChownErrors, Whiteouts: archive.RemoveWhiteouts},
			nil
	}
	return apply.Options{}, fmt.Errorf("storage driver %s: no rule for whiteouts", driver.Name())
}

// unsynced tells that the driver's sync setting turns durability off. Without a word
// about it, layers are synced.
func unsynced(cfg config.Config, driver drivers.Driver) bool {
	if driver.Name() == vfs.Name {
		return cfg.VFS.Sync == "none"
	}
	return cfg.Overlay.Sync == "none"
}

// OpenDriver opens the driver that a store with this Config would have, for programs that
// keep records of their own, and says how a tar is to be unpacked for it. Errors are
// those of Open.
func OpenDriver(ctx context.Context, cfg config.Config) (drivers.Driver, apply.Options, error) {
	others, err := otherStores(cfg)
	if err != nil {
		return nil, apply.Options{}, err
	}
	driver, err := openDriver(ctx, cfg, others)
	if err != nil {
		return nil, apply.Options{}, err
	}
	options, err := applyOptions(cfg, driver)
	if err != nil {
		return nil, apply.Options{}, errors.Join(err, driver.Close())
	}
	return driver, options, nil
}
