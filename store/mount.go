package store

import (
	"context"
	"errors"
	"fmt"

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
	r, err := s.Roots(ctx)
	if err != nil {
		return "", err
	}
	layer, wanted, err := settleMount(ctx, r, ref, opts)
	if err != nil {
		return "", err
	}
	return mountLayer(ctx, r, layer, wanted)
}

// settleMount finds the layer of a container, and how that is mounted. Without such a
// container ref means a layer.
func settleMount(ctx context.Context, r *roots.Roots, ref string,
	opts MountOptions) (layer string, wanted drivers.MountOptions, err error) {
	container, err := findContainer(ctx, r, ref)
	switch {
	case err == nil:
		wanted, err = containerMount(container, opts, r.Config.DisableVolatile)
		return container.LayerID, wanted, err
	case errors.Is(err, errdefs.ErrNotFound):
		wanted, err = layerMount(opts)
	}
	return ref, wanted, err
}

func findContainer(ctx context.Context, r *roots.Roots, ref string) (container containers.Container, err error) {
	err = r.Containers.View(ctx, func(c *containers.ReadTx) error {
		container, err = c.Lookup(ref)
		return err
	})
	return container, err
}

func containerMount(container containers.Container, opts MountOptions,
	disableVolatile bool) (drivers.MountOptions, error) {
	wanted := drivers.MountOptions{ReadOnly: opts.ReadOnly, Options: opts.Options, Label: opts.Label,
		IDMap: container.Mapping(), Volatile: container.Volatile() && !disableVolatile}
	if wanted.Options == nil {
		wanted.Options = container.MountOpts()
	}
	if !opts.IDMap.IsIdentity() && !opts.IDMap.Equal(wanted.IDMap) {
		return wanted, fmt.Errorf("container %s: %w: it runs with another ID map, and is mounted with that",
			container.ID, errdefs.ErrInvalid)
	}
	return wanted, nil
}

func layerMount(opts MountOptions) (drivers.MountOptions, error) {
	wanted := drivers.MountOptions{ReadOnly: opts.ReadOnly, Options: opts.Options, Label: opts.Label}
	if opts.IDMap.IsIdentity() {
		return wanted, nil
	}
	wanted.IDMap, wanted.MapOwn, wanted.ReadOnly = opts.IDMap, true, true
	return wanted, opts.IDMap.Validate()
}

// mountLayer mounts a layer while the driver's home stays as it is.
func mountLayer(ctx context.Context, r *roots.Roots, ref string, wanted drivers.MountOptions) (string, error) {
	lock, err := r.HoldHome(ctx, func() error { // nothing is mounted for the sake of a layer that isn't there
		return r.Layers.View(ctx, func(l *layers.ReadTx) error {
			_, err := l.Lookup(ref)
			return err
		})
	})
	if err != nil {
		return "", err
	}
	defer lock.Release()
	return r.Layers.Mount(ctx, ref, wanted)
}

// MountImage mounts the top layer of an image read-only, with the owners that the image
// has, and returns where. Where the image has only copies of its top layer with other
// owners, one more is made. An image without a layer is errdefs.ErrInvalid.
func (s *Store) MountImage(ctx context.Context, ref string, opts MountOptions) (path string, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return "", err
	}
	image, top, err := imageTop(ctx, r, ref)
	if err != nil {
		return "", err
	}
	if image.TopLayer == "" {
		return "", fmt.Errorf("image %s: %w: it has no layer to mount", image.ID, errdefs.ErrInvalid)
	}
	if !top.Mapping().IsIdentity() {
		mapped, err := mapTopLayer(ctx, r, image, top, idtools.Mapping{})
		if err != nil {
			return "", fmt.Errorf("image %s: %w", image.ID, err)
		}
		top = *mapped
	}
	opts.ReadOnly = true
	wanted, err := layerMount(opts)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", image.ID, err)
	}
	return mountLayer(ctx, r, top.ID, wanted)
}

// UnmountImage takes back a MountImage, or all of them with force; see Unmount.
func (s *Store) UnmountImage(ctx context.Context, ref string, force bool) (stillMounted bool, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return false, err
	}
	image, top, err := imageTop(ctx, r, ref)
	if err != nil || image.TopLayer == "" {
		return false, err
	}
	return r.Layers.Unmount(ctx, top.ID, force)
}

// imageTop returns an image and the one of its top layers that has its own owners, if
// there is one.
func imageTop(ctx context.Context, r *roots.Roots, ref string) (image images.Image, top layers.Layer, err error) {
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
	r, err := s.Roots(ctx)
	if err != nil {
		return false, err
	}
	container, err := findContainer(ctx, r, ref)
	if err == nil {
		ref = container.LayerID
	} else if !errors.Is(err, errdefs.ErrNotFound) {
		return false, err
	}
	return r.Layers.Unmount(ctx, ref, force)
}
