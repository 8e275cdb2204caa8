package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/mount"
)

// Mount mounts a layer, or counts one user more if it is mounted, and returns where. opts
// matter only for the first. An empty opts.Label stands for that of the layer's record.
//
// If someone unmounted the layer behind the store's back it is mounted again. Its count
// goes on from where it was: those who mounted it will all unmount it, and the mount may
// still be there in another mount namespace.
func (s *Store) Mount(ctx context.Context, ref string, opts drivers.MountOptions) (path string, err error) {
	err = s.View(ctx, func(tx *ReadTx) error {
		layer, err := tx.Lookup(ref)
		if err != nil {
			return err
		}
		return s.mounts.Update(ctx, func(mounts *catalog.MountsWriteTx) error {
			path, err = tx.mount(ctx, mounts, layer, opts)
			if err != nil {
				return fmt.Errorf("layer %s: mount: %w", layer.ID, err)
			}
			return nil
		})
	})
	return path, err
}

// mountPoint is Info.MountPoint. Mounts that have been described end there, which saves
// asking the driver.
func (s *Store) mountPoint(ctx context.Context, id string, specs []mount.Spec) (string, error) {
	if len(specs) > 0 {
		return specs[len(specs)-1].Target, nil
	}
	info, err := s.driver.Stat(ctx, id)
	return info.MountPoint, err
}

func (tx *ReadTx) mount(ctx context.Context, mounts *catalog.MountsWriteTx, layer Layer,
	opts drivers.MountOptions) (string, error) {
	s := tx.store
	if layer.ReadOnly && !opts.ReadOnly {
		return "", layer.refuse()
	}
	m, err := mounts.Get(layer.ID)
	if err != nil {
		return "", err
	}
	if m.Count > 0 {
		if m.Path, err = tx.MountPoint(ctx, m); err != nil {
			return "", err
		}
	}
	if m.Count > 0 && !mount.IsDead(m.Path) {
		mounted, err := mount.IsMountPoint(m.Path)
		if err != nil {
			return "", err
		}
		if mounted {
			if opts.MapOwn {
				return "", fmt.Errorf("with an ID map: %w: it is mounted already, as it is or with another map",
					errdefs.ErrBusy)
			}
			m.Count++
			return m.Path, mounts.Set(m)
		}
	}
	if opts.Label == "" {
		opts.Label = layer.MountLabel
	}
	if err := tx.translate(ctx, layer, &opts); err != nil {
		return "", err
	}
	specs, err := s.driver.Mounts(ctx, layer.ID, opts)
	if err != nil {
		return "", err
	}
	target, err := s.mountPoint(ctx, layer.ID, specs)
	if err != nil {
		return "", err
	}
	if len(specs) > 0 {
		// A process that was killed between its mount and its count, or between its count
		// and its unmount, left a mount that nobody counts. A second one on top would
		// write to the same directory.
		if leftover, err := isServed(target); err != nil {
			return "", err
		} else if leftover {
			specs = nil
		}
	}
	step.Reached(ctx, "about to mount")
	for _, spec := range specs {
		if err := mount.Perform(ctx, spec); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("%w: files of the layer or of one beneath it are gone: %w", errdefs.ErrCorrupt, err)
			}
			return "", errors.Join(err, s.unmountAt(ctx, layer.ID, target))
		}
	}
	step.Reached(ctx, "mounted")
	m.Path = filepath.Clean(target)
	m.Count++
	if err := mounts.Set(m); err != nil {
		return "", errors.Join(err, s.unmountAt(ctx, layer.ID, target))
	}
	return m.Path, nil
}

// isServed reports whether something is mounted on target, after it has taken away what a
// mount program that has died left there, which serves nobody.
func isServed(target string) (bool, error) {
	for {
		is, err := mount.IsMountPoint(target)
		if err != nil || !is || !mount.IsDead(target) {
			return is, err
		}
		if err := mount.Unmount(target); err != nil {
			return false, err
		}
	}
}

// Unmount takes one user off a layer's count and unmounts it when that was the last, or
// at once with force. It reports whether the layer is still mounted. A layer that isn't
// mounted is no error.
func (s *Store) Unmount(ctx context.Context, ref string, force bool) (stillMounted bool, err error) {
	// The kernel writes all that is dirty on the file system when the last user of an
	// overlay mount goes, a running import's files among it. This descriptor is a user
	// until the locks are given back, so that only the caller waits.
	var held io.Closer
	err = s.View(ctx, func(tx *ReadTx) error {
		layer, err := tx.Lookup(ref)
		if err != nil {
			return err
		}
		return s.mounts.Update(ctx, func(mounts *catalog.MountsWriteTx) error {
			m, err := mounts.Get(layer.ID)
			if err != nil {
				return err
			}
			if m.Count > 1 && !force {
				m.Count--
				stillMounted = true
				return mounts.Set(m)
			}
			return tx.unmount(ctx, mounts, m, &held)
		})
	})
	if held != nil {
		held.Close()
	}
	return stillMounted, err
}

// MountPoint is where the driver mounts the layer of m. An entry of the table that names
// another place is errdefs.ErrCorrupt: nothing but a layer's own mount point is ever
// unmounted, or given to somebody as one.
func (tx *ReadTx) MountPoint(ctx context.Context, m catalog.Mountpoint) (own string, err error) {
	s := tx.store
	if home, ok := s.driver.(drivers.MountHome); ok {
		own, err = home.MountPoint(m.ID)
	} else {
		var info drivers.Info
		info, err = s.driver.Stat(ctx, m.ID)
		own = info.MountPoint
	}
	if err != nil {
		return "", err
	}
	if own = filepath.Clean(own); m.Path == own || m.Path == "" {
		return own, nil
	}
	// The root may be known to another program by another name. Looking is no use of the
	// path: it reads links, and nothing of what they lead to.
	there, err := filepath.EvalSymlinks(m.Path)
	if here, herr := filepath.EvalSymlinks(own); err == nil && herr == nil && here == there {
		return own, nil
	}
	return own, errdefs.CorruptFile{Path: filepath.Join(s.cfg.RunDir, mountpointsFile),
		At: fmt.Sprintf("layer %q: path %q, which isn't its mount point %q", m.ID, m.Path, own)}
}

// unmount ends a mount whatever its count is. held, unless it is nil, gets a descriptor
// that keeps it in being.
func (tx *ReadTx) unmount(ctx context.Context, mounts *catalog.MountsWriteTx, m catalog.Mountpoint,
	held *io.Closer) error {
	s := tx.store
	path, err := tx.MountPoint(ctx, m)
	if errors.Is(err, errdefs.ErrNotFound) { // then there is no mount point either
		return mounts.Set(catalog.Mountpoint{ID: m.ID})
	}
	if err != nil {
		return fmt.Errorf("layer %s: unmount: %w", m.ID, err)
	}
	_, mounted := s.driver.(drivers.MountHome) // else what is mounted there isn't ours
	if held != nil && m.Count > 0 && mounted {
		*held = mount.Hold(path)
	}
	// The count goes first: a mount that nobody counts is found by the next Mount, while
	// a count without a mount would never end.
	if err := mounts.Set(catalog.Mountpoint{ID: m.ID}); err != nil {
		return err
	}
	if err := mounts.Save(); err != nil {
		return err
	}
	step.Reached(ctx, "mount count removed")
	if mounted {
		if err := mount.Unmount(path); err != nil {
			return errors.Join(fmt.Errorf("layer %s: unmount: %w", m.ID, err), mounts.Set(m), mounts.Save())
		}
	}
	// What fails from here on doesn't bring the mount back, nor its count.
	if err := s.unmounted(ctx, m.ID); err != nil {
		return fmt.Errorf("layer %s: unmounted: %w", m.ID, err)
	}
	step.Reached(ctx, "unmounted")
	return nil
}

func (s *Store) unmountAt(ctx context.Context, id, path string) error {
	if err := mount.Unmount(path); err != nil {
		return err
	}
	return s.unmounted(ctx, id)
}

// unmounted has the driver tidy up after a mount.
func (s *Store) unmounted(ctx context.Context, id string) error {
	if tidy, ok := s.driver.(drivers.MountHome); ok {
		return tidy.Unmounted(ctx, id)
	}
	return nil
}

// UnmountAll unmounts these layers, whatever their counts are.
func (tx *WriteTx) UnmountAll(ctx context.Context, ids ...string) error {
	mounted, err := tx.table(ctx)
	mounted = slices.DeleteFunc(slices.Clone(mounted), func(m catalog.Mountpoint) bool {
		return !slices.Contains(ids, m.ID)
	})
	if err != nil || len(mounted) == 0 {
		return err
	}
	tx.mounts = nil
	return tx.store.mounts.Update(ctx, func(mounts *catalog.MountsWriteTx) error {
		for _, m := range mounted {
			if err := tx.unmount(ctx, mounts, m, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// table is the table of mounts. It is read once in a transaction: nobody changes it while
// the layers are locked exclusively.
func (tx *WriteTx) table(ctx context.Context) ([]catalog.Mountpoint, error) {
	if tx.mounts != nil {
		return tx.mounts, nil
	}
	all, err := tx.ReadTx.table(ctx)
	if err == nil {
		tx.mounts = append([]catalog.Mountpoint{}, all...) // not nil
	}
	return all, err
}

func (tx *ReadTx) table(ctx context.Context) (all []catalog.Mountpoint, err error) {
	err = tx.store.mounts.View(ctx, func(mounts *catalog.MountsTx) error {
		all, err = mounts.All()
		return err
	})
	return all, err
}

// Mounted returns how many users a layer's mount has; 0 means that it isn't mounted.
func (tx *ReadTx) Mounted(ctx context.Context, ref string) (count int, err error) {
	layer, err := tx.Lookup(ref)
	if err != nil {
		return 0, err
	}
	err = tx.store.mounts.View(ctx, func(mounts *catalog.MountsTx) error {
		m, err := mounts.Get(layer.ID)
		count = m.Count
		return err
	})
	return count, err
}

// MountTable is the table of mounts, whose lock is taken while that of the layers is
// held.
func (tx *ReadTx) MountTable() *catalog.Mountpoints { return tx.store.mounts }

// MountedLayers returns the mounts of layers that exist.
func (tx *ReadTx) MountedLayers(ctx context.Context) ([]catalog.Mountpoint, error) {
	all, err := tx.table(ctx)
	return tx.existing(all), err
}

// MountedLayers is ReadTx.MountedLayers.
func (tx *WriteTx) MountedLayers(ctx context.Context) ([]catalog.Mountpoint, error) {
	all, err := tx.table(ctx)
	return tx.existing(all), err
}

func (tx *ReadTx) existing(mounts []catalog.Mountpoint) []catalog.Mountpoint {
	return slices.DeleteFunc(slices.Clone(mounts), func(m catalog.Mountpoint) bool {
		_, err := tx.Get(m.ID)
		return err != nil
	})
}
