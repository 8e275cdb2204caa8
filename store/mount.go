package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/internal/roots"
)

// Mount mounts a container's layer or a layer, found by ID, name or unique prefix, and
// returns where. It may be mounted already; every successful Mount wants an Unmount, in
// this process or another. A container is mounted with the options, label and mapping
// that its record holds, unless opts says otherwise. What opts say matters to the first
// Mount alone.
//
// Options that the driver doesn't allow are errdefs.ErrInvalid, and so is an ID map that
// a container doesn't run with. An ID map is errdefs.ErrBusy for a layer that is mounted
// already, and errdefs.ErrUnsupported where the kernel or the driver can't translate
// owners while mounting, or the layer's owners are translated on disk.
func (s *Store) Mount(ctx context.Context, ref string, opts MountOptions) (path string, err error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return "", err
	}
	if container, known := guessContainer(roots, ref); known {
		path, err = s.mountContainer(ctx, roots, container, opts)
		if !errors.Is(err, errdefs.ErrNotFound) { // else it is gone, and another may have its ID
			return path, err
		}
	}
	switch container, err := s.Container(ctx, ref); {
	case err == nil:
		return s.mountContainer(ctx, roots, container, opts)
	case errors.Is(err, errdefs.ErrNotFound):
		return s.mountLayer(ctx, roots, ref, opts)
	default:
		return "", err
	}
}

// guessContainer is Container from memory, for a whole ID. A container's layer, options
// and mapping stay what they are as long as it lives.
func guessContainer(r *roots.Roots, id string) (container containers.Container, known bool) {
	r.Containers.Recall(func(tx *containers.ReadTx) {
		var err error
		container, err = tx.Get(id)
		known = err == nil
	})
	return container, known
}

func (s *Store) mountContainer(ctx context.Context, roots *roots.Roots, container containers.Container,
	opts MountOptions) (string, error) {
	wanted := drivers.MountOptions{ReadOnly: opts.ReadOnly, Options: opts.Options, Label: opts.Label,
		IDMap: container.Mapping()}
	if wanted.Options == nil {
		wanted.Options = container.MountOpts()
	}
	if !opts.IDMap.IsIdentity() && !opts.IDMap.Equal(wanted.IDMap) {
		return "", fmt.Errorf("container %s: %w: it runs with another ID map, and is mounted with that", container.ID,
			errdefs.ErrInvalid)
	}
	wanted.Volatile = container.Volatile() && !s.cfg.DisableVolatile
	return s.mountBeneathHome(ctx, roots, container.LayerID, wanted)
}

func (s *Store) mountLayer(ctx context.Context, roots *roots.Roots, ref string, opts MountOptions) (string, error) {
	layer, err := s.Layer(ctx, ref) // before anything is mounted for its sake
	if err != nil {
		return "", err
	}
	wanted := drivers.MountOptions{ReadOnly: opts.ReadOnly, Options: opts.Options, Label: opts.Label}
	if !opts.IDMap.IsIdentity() {
		if err := opts.IDMap.Validate(); err != nil {
			return "", fmt.Errorf("layer %s: %w", layer.ID, err)
		}
		wanted.IDMap, wanted.MapOwn, wanted.ReadOnly = opts.IDMap, true, true
	}
	return s.mountBeneathHome(ctx, roots, layer.ID, wanted)
}

// mountBeneathHome mounts a layer while the driver's home stays as it is.
func (s *Store) mountBeneathHome(ctx context.Context, roots *roots.Roots, id string,
	wanted drivers.MountOptions) (string, error) {
	lock, err := roots.HoldHome(ctx)
	if err != nil {
		return "", err
	}
	defer lock.Release()
	return roots.Layers.Mount(ctx, id, wanted)
}

// MountImage mounts the top layer of an image read-only, with the owners that the image
// has, and returns where. Where the image has only copies of its top layer with other
// owners, one more is made. An image without a layer is errdefs.ErrInvalid.
func (s *Store) MountImage(ctx context.Context, ref string, opts MountOptions) (path string, err error) {
	image, top, err := s.imageTop(ctx, ref)
	if err != nil {
		return "", err
	}
	if image.TopLayer == "" {
		return "", fmt.Errorf("image %s: %w: it has no layer to mount", image.ID, errdefs.ErrInvalid)
	}
	if !top.Mapping().IsIdentity() {
		mapped, err := s.mapTopLayer(ctx, image, top, idtools.Mapping{})
		if err != nil {
			return "", fmt.Errorf("image %s: %w", image.ID, err)
		}
		top = *mapped
	}
	opts.ReadOnly = true
	return s.Mount(ctx, top.ID, opts)
}

// UnmountImage takes back a MountImage, or all of them with force; see Unmount.
func (s *Store) UnmountImage(ctx context.Context, ref string, force bool) (stillMounted bool, err error) {
	image, top, err := s.imageTop(ctx, ref)
	if err != nil || image.TopLayer == "" {
		return false, err
	}
	return s.Unmount(ctx, top.ID, force)
}

// imageTop returns an image and the one of its top layers that has its own owners, if
// there is one.
func (s *Store) imageTop(ctx context.Context, ref string) (image images.Image, top layers.Layer, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return image, top, err
	}
	err = r.ViewImages(ctx, func(l *layers.ReadTx, i *images.ReadTx) error {
		if image, err = i.Lookup(ref); err != nil || image.TopLayer == "" {
			return err
		}
		top, err = topLayer(l, image, idtools.Mapping{})
		return err
	})
	return image, top, err
}

// Unmount takes one user off the mount of a container's layer or a layer, and unmounts it
// when that was the last, or whatever others there are with force. It reports whether the
// layer is still mounted. What isn't mounted is no error.
func (s *Store) Unmount(ctx context.Context, ref string, force bool) (stillMounted bool, err error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return false, err
	}
	if container, known := guessContainer(roots, ref); known {
		stillMounted, err = roots.Layers.Unmount(ctx, container.LayerID, force)
		if !errors.Is(err, errdefs.ErrNotFound) {
			return stillMounted, err
		}
	}
	if ref, err = s.layerOf(ctx, ref); err != nil {
		return false, err
	}
	return roots.Layers.Unmount(ctx, ref, force)
}

// Mounted returns how many users the mount of a container's layer or a layer has; 0 means
// that it isn't mounted.
func (s *Store) Mounted(ctx context.Context, ref string) (count int, err error) {
	if ref, err = s.layerOf(ctx, ref); err != nil {
		return 0, err
	}
	return viewLayer(ctx, s, func(tx *layers.ReadTx) (int, error) { return tx.Mounted(ctx, ref) })
}

// MountedLayers returns where layers are mounted, for all users and processes together.
func (s *Store) MountedLayers(ctx context.Context) ([]catalog.Mountpoint, error) {
	return viewLayer(ctx, s, func(tx *layers.ReadTx) ([]catalog.Mountpoint, error) { return tx.MountedLayers(ctx) })
}

// layerOf returns the layer of a container, or what it was given if that is no container.
func (s *Store) layerOf(ctx context.Context, ref string) (string, error) {
	container, err := s.Container(ctx, ref)
	if errors.Is(err, errdefs.ErrNotFound) {
		return ref, nil
	}
	return container.LayerID, err
}

// LayerParentOwners returns the owners of the directories above a mounted layer's mount
// point that the layer's ID map can't express, ascending.
func (s *Store) LayerParentOwners(ctx context.Context, ref string) (uids, gids []int, err error) {
	_, err = viewLayer(ctx, s, func(tx *layers.ReadTx) (struct{}, error) {
		uids, gids, err = tx.ParentOwners(ctx, ref)
		return struct{}{}, err
	})
	return uids, gids, err
}

// ContainerParentOwners is LayerParentOwners for a container's layer.
func (s *Store) ContainerParentOwners(ctx context.Context, ref string) (uids, gids []int, err error) {
	container, err := s.Container(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	return s.LayerParentOwners(ctx, container.LayerID)
}
