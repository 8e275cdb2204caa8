// Package roots is what a store consists of: the driver, the records of layers, images
// and containers, the order of their locks, and the rules by which objects may be
// deleted. Package store and the packages below it work on the same Roots.
package roots

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/dirent"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/layers"
)

// Roots is a graph root with its run root, and with the image store and the additional
// stores that belong to them. It may be used from several goroutines.
type Roots struct {
	Config config.Config
	Driver drivers.Driver

	// The three kinds of record, under the directories that the driver's name gives them.
	// Who needs the locks of several takes them through a method of Roots.
	Layers     *layers.Store
	Images     *images.Store
	Containers *containers.Store
}

// Open makes the roots that cfg names where they are missing and may be made, and settles
// which driver's directories are worked in.
func Open(ctx context.Context, cfg config.Config) (*Roots, error) {
	if cfg.Existing && !holdsStore(cfg.GraphRoot) && (cfg.ImageStore == "" || !holdsStore(cfg.ImageStore)) {
		return nil, errdefs.Missing{Kind: errdefs.Store, Ref: cfg.GraphRoot, Why: "there is no store there"}
	}
	for _, root := range []string{cfg.GraphRoot, cfg.RunRoot, cfg.ImageStore} {
		if root == "" {
			continue
		}
		if err := os.MkdirAll(root, 0o700); err != nil { // nobody but the owner may reach what layers hold
			return nil, fmt.Errorf("store %s: %w", cfg.GraphRoot, err)
		}
	}
	others, err := otherStores(cfg)
	if err != nil {
		return nil, err
	}
	driver, err := openDriver(ctx, cfg, others)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", cfg.GraphRoot, err)
	}
	apply, err := applyOptions(cfg, driver)
	if err != nil {
		return nil, errors.Join(err, driver.Close())
	}
	r := &Roots{Config: cfg, Driver: driver}
	imageConfig := images.Config{Dir: r.dir(cfg.GraphRoot, "images"), RunDir: r.dir(cfg.RunRoot, "images"),
		ReadOnly: r.dirs(others, "images")}
	imageLayers, tempRoots := "", []string{filepath.Join(cfg.GraphRoot, driver.Name(), "tempdirs")}
	if split := cfg.ImageStore; split != "" {
		imageConfig.Dir, imageConfig.GraphDir = r.dir(split, "images"), imageConfig.Dir
		imageLayers = r.dir(split, "layers")
		tempRoots = append(tempRoots, filepath.Join(split, driver.Name(), "tempdirs"))
	}
	r.Layers = layers.Open(layers.Config{
		Dir:       r.dir(cfg.GraphRoot, "layers"),
		ImageDir:  imageLayers,
		ReadOnly:  r.dirs(others, "layers"),
		RunDir:    r.dir(cfg.RunRoot, "layers"),
		Transient: cfg.TransientStore,
		Apply:     apply,
		Unsynced:  unsynced(cfg, driver),
		Driver:    driver,
		TempRoots: tempRoots,
	})
	r.Images = images.Open(imageConfig)
	r.Containers = containers.Open(containers.Config{
		Dir: r.dir(cfg.GraphRoot, "containers"), RunDir: r.dir(cfg.RunRoot, "containers"),
		Transient: cfg.TransientStore,
	})
	return r, nil
}

// holdsStore reports whether a directory has something of a store, whatever its driver.
// What can't be read is left to whoever opens it to speak of.
func holdsStore(root string) bool {
	entries, err := openat.List(root, ".")
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return slices.ContainsFunc(entries, func(entry dirent.Entry) bool {
		driver, kind, _ := strings.Cut(entry.Name, "-")
		return slices.Contains([]string{"", "layers", "images", "containers"}, kind) &&
			slices.Contains([]string{"overlay", "overlay2", "vfs", "btrfs", "zfs"}, driver)
	})
}

// dir is where a root has its records of a kind.
func (r *Roots) dir(root, kind string) string { return filepath.Join(root, r.Driver.Name()+"-"+kind) }

func (r *Roots) dirs(roots []string, kind string) (dirs []string) {
	for _, root := range roots {
		dirs = append(dirs, r.dir(root, kind))
	}
	return dirs
}

// otherStores lists the additional image stores, without the store's own roots and
// without repeats: a store that is locked for a change can't be locked for reading
// beneath itself.
func otherStores(cfg config.Config) ([]string, error) {
	var seen []os.FileInfo
	isNew := func(root string) (bool, error) {
		st, err := os.Stat(root)
		if err != nil {
			return false, err
		}
		for _, other := range seen {
			if os.SameFile(st, other) {
				return false, nil
			}
		}
		seen = append(seen, st)
		return true, nil
	}
	for _, own := range []string{cfg.GraphRoot, cfg.ImageStore} {
		if own != "" {
			if _, err := isNew(own); err != nil {
				return nil, err
			}
		}
	}
	var others []string
	for _, root := range cfg.AdditionalImageStores {
		if other, err := isNew(root); err != nil {
			return nil, fmt.Errorf("additional image store: %w", err)
		} else if other {
			others = append(others, root)
		}
	}
	return others, nil
}
