package store

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/internal/roots"
)

// CreateContainer makes a container: a writable layer on top of its image's, and a
// record. Both survive a power cut from the moment that CreateContainer returns, unless
// the container is volatile.
//
// Errors are errdefs.ErrDuplicateID, errdefs.ErrDuplicateName, errdefs.ErrNotFound for
// the image, errdefs.ErrInvalid for an ID, a key or a map that breaks its grammar, and
// errdefs.ErrBusy when the image was changed meanwhile.
//
// Where the driver can't translate owners while mounting, the first container with a
// mapping makes a copy of the image's top layer with translated owners, which takes
// minutes for a big image and no lock, and which the image keeps for the next container
// with that mapping.
//
// With opts.AutoUserns the store chooses the mapping. Too few free IDs are
// errdefs.ErrInUse then, and no ranges to choose from errdefs.ErrNotFound.
func (s *Store) CreateContainer(ctx context.Context, opts ContainerOptions) (containers.Container, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return containers.Container{}, err
	}
	if opts, err = settleContainer(ctx, r, opts); err != nil {
		return containers.Container{}, fmt.Errorf("new container: %w", err)
	}
	if opts.AutoUserns != nil {
		return createInFreeRange(ctx, r, opts)
	}
	return createContainer(ctx, r, opts)
}

// createContainer makes a container by options that are settled: it plans, stages and
// records.
func createContainer(ctx context.Context, r *roots.Roots, opts ContainerOptions) (containers.Container, error) {
	plan, err := planContainer(ctx, r, opts)
	if err != nil {
		return containers.Container{}, err
	}
	draft, err := plan.stage(ctx, r, opts)
	if err != nil {
		return containers.Container{}, fmt.Errorf("new container: %w", err)
	}
	defer draft.Close() // what can't be removed is stale, and goes with the next writer
	created, err := plan.record(ctx, r, opts, draft)
	if err != nil && created.ID != "" {
		err = errors.Join(err, withdraw(ctx, r, created))
	}
	return created, err
}

// withdraw removes a container whose save has failed. Its record may be there or not, and
// would have lost its layer, which goes with the draft.
func withdraw(ctx context.Context, r *roots.Roots, failed containers.Container) error {
	ctx, cancel := roots.UndoContext(ctx)
	defer cancel()
	return r.UpdateContainers(ctx, func(l *layers.WriteTx, _ *images.ReadTx, c *containers.WriteTx) error {
		if now, err := c.Get(failed.ID); err == nil && now.LayerID == failed.LayerID {
			return roots.DeleteContainer(ctx, now, l, c)
		}
		return nil
	})
}

// settleContainer completes the options, and refuses what is wrong about them whatever
// the store holds.
func settleContainer(ctx context.Context, r *roots.Roots, opts ContainerOptions) (ContainerOptions, error) {
	if opts.AutoUserns != nil && (opts.HostUIDMapping || opts.HostGIDMapping || !opts.IDMap.IsIdentity()) {
		return opts, fmt.Errorf("%w: an automatic user namespace besides a mapping or the host's IDs",
			errdefs.ErrInvalid)
	}
	if opts.HostUIDMapping {
		opts.IDMap.UIDs = nil
	}
	if opts.HostGIDMapping {
		opts.IDMap.GIDs = nil
	}
	if err := opts.IDMap.Validate(); err != nil {
		return opts, err
	}
	opts.Volatile = opts.Volatile || r.Config.TransientStore
	for _, item := range opts.BigData {
		if _, err := bigdata.FileName(item.Key); err != nil {
			return opts, err
		}
	}
	if opts.Limits.Any() {
		if err := r.Layers.Limitable(ctx); err != nil {
			return opts, err
		}
	}
	if opts.Flags = maps.Clone(opts.Flags); opts.Flags == nil {
		opts.Flags = map[string]any{}
	}
	return opts, checkLabels(opts.Flags, opts.LabelOpts)
}

// containerPlan is what a new container starts from.
type containerPlan struct {
	image images.Image  // without ID for a container without an image
	top   *layers.Layer // the image's top layer, or a copy of it with other owners; or nil
	shift bool          // the driver translates the owners of top while mounting
}

// planContainer looks up what a new container needs and checks its names, before any work
// is done. Of the image's top layers it takes the one that has the mapping that is needed
// on disk, if there is one.
func planContainer(ctx context.Context, r *roots.Roots, opts ContainerOptions) (*containerPlan, error) {
	plan := &containerPlan{}
	shifts, err := r.Layers.Shifts(ctx, opts.IDMap)
	if err != nil {
		return nil, err
	}
	find := func(l *layers.ReadTx, i *images.ReadTx) error {
		if _, err := l.CheckFree(opts.Layer, nil); err != nil || opts.Image == "" {
			return err
		}
		if plan.image, err = i.Lookup(opts.Image); err != nil || plan.image.TopLayer == "" {
			return err
		}
		return plan.findTop(ctx, r, l, opts.IDMap, shifts)
	}
	if opts.ID == "" && len(opts.Names) == 0 { // nothing that another container could have
		return plan, r.ViewImages(ctx, find)
	}
	return plan, r.ViewAll(ctx, func(l *layers.ReadTx, i *images.ReadTx, c *containers.ReadTx) error {
		if err := c.CheckFree(opts.ID, opts.Names); err != nil {
			return err
		}
		return find(l, i)
	})
}

// findTop finds the image's top layer with its own owners, if the driver translates them
// while mounting, else with those that m makes of them.
func (p *containerPlan) findTop(ctx context.Context, r *roots.Roots, l *layers.ReadTx, m idtools.Mapping,
	shifts bool) error {
	if shifts {
		top, err := topLayer(l, p.image, idtools.Mapping{})
		if err != nil {
			return err
		}
		p.top = &top
		if p.shift, err = r.Layers.ShiftsLayer(ctx, top.ID); err != nil || p.shift {
			return err
		}
	}
	top, err := topLayer(l, p.image, m)
	p.top = &top
	return err
}

// stage makes the container's layer aside, and a copy of what it lies on where that has
// other owners than it needs.
func (p *containerPlan) stage(ctx context.Context, r *roots.Roots, opts ContainerOptions) (*layers.Draft, error) {
	onDisk := opts.IDMap // of the parent of the container's layer
	if p.shift {
		onDisk = idtools.Mapping{}
	}
	// Of an image of a read-only store nothing can be kept for the next container: the
	// copy is this one's own then.
	if p.top != nil && !p.top.Mapping().Equal(onDisk) && !p.image.ReadOnly && !p.top.ReadOnly {
		mapped, err := mapTopLayer(ctx, r, p.image, *p.top, onDisk)
		if err != nil {
			return nil, err
		}
		p.top = mapped
	}
	if err := r.PrepareHome(ctx); err != nil {
		return nil, err
	}
	draft, err := r.Layers.Prepare(ctx, p.top, layers.CreateOptions{
		ID:       opts.Layer,
		Writable: true,
		Limits:   opts.Limits,
		Volatile: opts.Volatile,
		IDMap:    opts.IDMap,
		// a container without a map has the host's IDs, whatever its image's layers have
		HostUIDMapping: len(opts.IDMap.UIDs) == 0,
		HostGIDMapping: len(opts.IDMap.GIDs) == 0,
		Container:      true,
		Shift:          p.shift,
	})
	if err != nil {
		return nil, err
	}
	if err := draft.SyncOrPostpone(ctx); err != nil {
		return nil, errors.Join(err, draft.Close())
	}
	return draft, nil
}

// record makes layer and container known in one save.
func (p *containerPlan) record(ctx context.Context, r *roots.Roots, opts ContainerOptions,
	draft *layers.Draft) (created containers.Container, err error) {
	if !opts.IDMap.IsIdentity() {
		lock, err := r.LockUserns(ctx)
		if err != nil {
			return created, fmt.Errorf("new container: %w", err)
		}
		defer lock.Release()
	}
	err = r.UpdateContainers(ctx, func(l *layers.WriteTx, i *images.ReadTx, c *containers.WriteTx) error {
		if err := p.stillRight(opts, i, c); err != nil {
			return err
		}
		flags, err := withLabels(opts, &l.ReadTx)
		if err != nil {
			return err
		}
		label, _ := flags[containers.FlagMountLabel].(string)
		draft.SetMountLabel(label)
		layer, err := l.Add(ctx, draft)
		if err != nil {
			return err
		}
		created, err = c.Add(containers.Options{ID: opts.ID, Names: opts.Names, ImageID: p.image.ID, LayerID: layer.ID,
			Metadata: opts.Metadata, IDMap: opts.IDMap, MountOpts: opts.MountOpts, Volatile: opts.Volatile,
			Flags: flags, BigData: opts.BigData})
		if err != nil {
			return err
		}
		if err := catalog.SaveTogether(l.Records(), c.Records()); err != nil {
			return err
		}
		draft.Recorded()
		step.Reached(ctx, "layer and container recorded")
		return nil
	})
	return created, err
}

// stillRight makes sure that nothing the plan rests on has changed while the layer was
// staged.
func (p *containerPlan) stillRight(opts ContainerOptions, i *images.ReadTx, c *containers.WriteTx) error {
	if p.image.ID != "" {
		now, err := i.Get(p.image.ID)
		if err != nil {
			return err
		}
		if now.TopLayer != p.image.TopLayer {
			return fmt.Errorf("image %s: changed while a container of it was made: %w", now.ID, errdefs.ErrBusy)
		}
	}
	if opts.AutoUserns != nil {
		if err := stillFree(c, opts.IDMap); err != nil {
			return err
		}
	}
	return c.CheckFree(opts.ID, opts.Names)
}
