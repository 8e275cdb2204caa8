package store

import (
	"context"
	"fmt"
	"maps"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/diskusage"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
)

// Containers returns all containers: stable ones before volatile ones.
func (s *Store) Containers(ctx context.Context) ([]containers.Container, error) {
	return viewContainer(ctx, s, (*containers.ReadTx).All)
}

// Container finds a container by ID, name, the ID of its layer or unique ID prefix;
// errdefs.ErrNotFound when there is none.
func (s *Store) Container(ctx context.Context, ref string) (containers.Container, error) {
	return viewContainer(ctx, s, func(tx *containers.ReadTx) (containers.Container, error) { return tx.Lookup(ref) })
}

// ContainerByLayer returns the container that a layer belongs to; errdefs.ErrNotFound
// when it belongs to none.
func (s *Store) ContainerByLayer(ctx context.Context, layer string) (containers.Container, error) {
	l, err := s.Layer(ctx, layer)
	if err != nil {
		return containers.Container{}, err
	}
	return viewContainer(ctx, s, func(tx *containers.ReadTx) (containers.Container, error) { return tx.ByLayer(l.ID) })
}

// viewContainer is View of the containers alone, for functions with a result.
func viewContainer[T any](ctx context.Context, s *Store, fn func(*containers.ReadTx) (T, error)) (T, error) {
	var result T
	r, err := s.Roots(ctx)
	if err != nil {
		return result, err
	}
	err = r.Containers.View(ctx, func(tx *containers.ReadTx) (err error) {
		result, err = fn(tx)
		return err
	})
	return result, err
}

// CreateContainer makes a container: a writable layer on top of its image's, and a
// record. Both survive a power cut from the moment that CreateContainer returns, unless
// the container is volatile.
//
// Errors are errdefs.ErrDuplicateID, errdefs.ErrDuplicateName, errdefs.ErrNotFound for
// the image, errdefs.ErrInvalid for an ID, a key or a map that breaks its grammar.
//
// Where the driver can't translate owners while mounting, the first container with a
// mapping makes a copy of the image's top layer with translated owners, which takes
// minutes for a big image and no lock, and which the image keeps for the next container
// with that mapping.
//
// With opts.AutoUserns the store chooses the mapping. Too few free IDs are
// errdefs.ErrInUse then, and no ranges to choose from errdefs.ErrNotFound.
func (s *Store) CreateContainer(ctx context.Context, opts ContainerOptions) (containers.Container, error) {
	if opts.AutoUserns != nil {
		if opts.HostUIDMapping || opts.HostGIDMapping || !opts.IDMap.IsIdentity() {
			return containers.Container{}, fmt.Errorf(
				"new container: %w: an automatic user namespace besides a mapping or the host's IDs",
				errdefs.ErrInvalid)
		}
		return s.createInFreeRange(ctx, opts)
	}
	return s.createContainer(ctx, opts)
}

// createContainer plans with what this process remembers of the image, which saves two
// locks. If that is out of date, the records prove it when the container is added, and it
// is made once more by what they say.
func (s *Store) createContainer(ctx context.Context, opts ContainerOptions) (containers.Container, error) {
	guessed := false
	created, err := s.createPlanned(ctx, opts, func(ctx context.Context, opts ContainerOptions,
		onDisk idtools.Mapping) (*containerPlan, error) {
		if plan := s.guessPlan(opts, onDisk); plan != nil {
			guessed = true
			return plan, nil
		}
		return s.planContainer(ctx, opts, onDisk)
	})
	if err != nil && guessed && ctx.Err() == nil {
		return s.createPlanned(ctx, opts, s.planContainer)
	}
	return created, err
}

// planner finds what a new container starts from.
type planner func(ctx context.Context, opts ContainerOptions, onDisk idtools.Mapping) (*containerPlan, error)

func (s *Store) createPlanned(ctx context.Context, opts ContainerOptions,
	planned planner) (created containers.Container, err error) {
	if opts.HostUIDMapping {
		opts.IDMap.UIDs = nil
	}
	if opts.HostGIDMapping {
		opts.IDMap.GIDs = nil
	}
	opts.Volatile = opts.Volatile || s.cfg.TransientStore
	roots, err := s.Roots(ctx)
	if err != nil {
		return containers.Container{}, err
	}
	if err := opts.IDMap.Validate(); err != nil {
		return containers.Container{}, fmt.Errorf("new container: %w", err)
	}
	if opts.Limits.Any() {
		if err := roots.Layers.Limitable(ctx); err != nil {
			return containers.Container{}, fmt.Errorf("new container: %w", err)
		}
	}
	shift, err := roots.Layers.Shifts(ctx, opts.IDMap)
	if err != nil {
		return containers.Container{}, err
	}
	onDisk := opts.IDMap // of the parent of the container's layer
	if shift {
		onDisk = idtools.Mapping{}
	}
	plan, err := planned(ctx, opts, onDisk)
	if err != nil {
		return containers.Container{}, err
	}
	if shift && plan.top != nil {
		if shift, err = roots.Layers.ShiftsLayer(ctx, plan.top.ID); err != nil {
			return containers.Container{}, fmt.Errorf("new container: %w", err)
		}
		if !shift {
			onDisk = opts.IDMap
			if plan, err = planned(ctx, opts, onDisk); err != nil {
				return containers.Container{}, err
			}
		}
	}
	// Of an image of a read-only store nothing can be kept for the next container: the
	// copy is this one's own then.
	if plan.top != nil && !plan.top.Mapping().Equal(onDisk) && !plan.image.ReadOnly && !plan.top.ReadOnly {
		if plan.top, err = s.mapTopLayer(ctx, plan.image, *plan.top, onDisk); err != nil {
			return containers.Container{}, fmt.Errorf("new container: %w", err)
		}
	}
	if err := roots.PrepareHome(ctx); err != nil {
		return containers.Container{}, fmt.Errorf("new container: %w", err)
	}
	draft, err := roots.Layers.Prepare(ctx, plan.top, layers.CreateOptions{
		ID:       opts.Layer,
		Writable: true,
		Limits:   opts.Limits,
		Volatile: opts.Volatile,
		IDMap:    opts.IDMap,
		// a container without a map has the host's IDs, whatever its image's layers have
		HostUIDMapping: len(opts.IDMap.UIDs) == 0,
		HostGIDMapping: len(opts.IDMap.GIDs) == 0,
		Container:      true,
		Shift:          shift && plan.top != nil,
	})
	if err != nil {
		return containers.Container{}, fmt.Errorf("new container: %w", err)
	}
	defer draft.Close() // what can't be removed is stale, and goes with the next writer
	if err := draft.SyncOrPostpone(ctx); err != nil {
		return containers.Container{}, fmt.Errorf("new container: %w", err)
	}
	if !opts.IDMap.IsIdentity() {
		lock, err := roots.LockUserns(ctx)
		if err != nil {
			return containers.Container{}, fmt.Errorf("new container: %w", err)
		}
		defer lock.Release()
	}
	err = roots.UpdateContainers(ctx, func(l *layers.WriteTx, i *images.ReadTx, c *containers.WriteTx) error {
		if err := plan.stillRight(i); err != nil {
			return err
		}
		if opts.AutoUserns != nil {
			if err := stillFree(c, opts.IDMap); err != nil {
				return err
			}
		}
		if err := c.CheckFree(opts.ID, opts.Names); err != nil {
			return err
		}
		chosen, err := chooseLabels(plan.flags, opts.LabelOpts, &l.ReadTx)
		if err != nil {
			return err
		}
		plan.flags[containers.FlagProcessLabel], plan.flags[containers.FlagMountLabel] = chosen.process, chosen.mount
		draft.SetMountLabel(chosen.mount)
		layer, err := l.Add(ctx, draft)
		if err != nil {
			return err
		}
		created, err = c.Add(containers.Options{
			ID:        opts.ID,
			Names:     opts.Names,
			ImageID:   plan.image.ID,
			LayerID:   layer.ID,
			Metadata:  opts.Metadata,
			IDMap:     opts.IDMap,
			MountOpts: opts.MountOpts,
			Volatile:  opts.Volatile,
			Flags:     plan.flags,
			BigData:   opts.BigData,
		})
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

// containerPlan is what a new container starts from.
type containerPlan struct {
	guess string        // the name by which the image was found in memory; "" for a plan made by the records
	image images.Image  // without ID for a container without an image
	top   *layers.Layer // the image's top layer, or a copy of it with the mapping that was asked for; or nil
	flags map[string]any
}

// planContainer looks up what a new container needs and checks its names, before any work
// is done. Of the image's top layers it takes the one that has the mapping onDisk, if
// there is one.
func (s *Store) planContainer(ctx context.Context, opts ContainerOptions,
	onDisk idtools.Mapping) (*containerPlan, error) {
	plan := &containerPlan{flags: maps.Clone(opts.Flags)}
	if plan.flags == nil {
		plan.flags = map[string]any{}
	}
	find := func(l *layers.ReadTx, i *images.ReadTx) error {
		if _, err := l.CheckFree(opts.Layer, nil); err != nil {
			return err
		}
		if err := plan.find(l, i, opts.Image, onDisk); err != nil {
			return err
		}
		return checkLabels(plan.flags, opts.LabelOpts)
	}
	r, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	if opts.ID == "" && len(opts.Names) == 0 { // nothing that another container could have
		return plan, r.ViewImages(ctx, find)
	}
	return plan, s.viewAll(ctx, func(l *layers.ReadTx, i *images.ReadTx, c *containers.ReadTx) error {
		if err := c.CheckFree(opts.ID, opts.Names); err != nil {
			return err
		}
		return find(l, i)
	})
}

// find looks up an image, unless ref is empty, and its top layer.
func (p *containerPlan) find(l *layers.ReadTx, i *images.ReadTx, ref string, onDisk idtools.Mapping) error {
	if ref == "" {
		return nil
	}
	image, err := i.Lookup(ref)
	if err != nil {
		return err
	}
	p.image = image
	if image.TopLayer == "" {
		return nil
	}
	top, err := topLayer(l, image, onDisk)
	if err != nil {
		return err
	}
	p.top = &top
	return nil
}

// guessPlan is planContainer from memory, for a container about which there is nothing
// but its image to look up: nil where that isn't remembered.
func (s *Store) guessPlan(opts ContainerOptions, onDisk idtools.Mapping) *containerPlan {
	s.mu.Lock()
	r := s.roots
	s.mu.Unlock()
	if r == nil || opts.Image == "" || opts.ID != "" || opts.Layer != "" || len(opts.Names) > 0 ||
		!opts.IDMap.IsIdentity() {
		return nil
	}
	plan := &containerPlan{guess: opts.Image, flags: maps.Clone(opts.Flags)}
	if plan.flags == nil {
		plan.flags = map[string]any{}
	}
	right := false
	r.Layers.Recall(func(l *layers.ReadTx) {
		r.Images.Recall(func(i *images.ReadTx) { right = plan.find(l, i, opts.Image, onDisk) == nil })
	})
	if !right || checkLabels(plan.flags, opts.LabelOpts) != nil {
		return nil
	}
	return plan
}

// stillRight makes sure that the image didn't change while the layer was staged.
func (p *containerPlan) stillRight(i *images.ReadTx) error {
	if p.image.ID == "" {
		return nil
	}
	now, err := i.Get(p.image.ID)
	if p.guess != "" {
		now, err = i.Lookup(p.guess)
	}
	if err != nil {
		return err
	}
	if now.ID != p.image.ID || now.TopLayer != p.image.TopLayer {
		return fmt.Errorf("image %s: changed while a container of it was made: %w", now.ID, errdefs.ErrBusy)
	}
	return nil
}

// ContainerBigDataNames returns the keys of a container's data items.
func (s *Store) ContainerBigDataNames(ctx context.Context, ref string) ([]string, error) {
	container, err := s.Container(ctx, ref)
	return container.BigDataNames, err
}

// ContainerBigData returns a data item of a container; errdefs.ErrNotFound when it has
// none under the key.
func (s *Store) ContainerBigData(ctx context.Context, ref, key string) ([]byte, error) {
	return viewContainer(ctx, s, func(tx *containers.ReadTx) ([]byte, error) { return tx.BigData(ref, key) })
}

// ContainerBigDataSize returns the size in bytes of a data item of a container.
func (s *Store) ContainerBigDataSize(ctx context.Context, ref, key string) (int64, error) {
	return viewContainer(ctx, s, func(tx *containers.ReadTx) (int64, error) { return tx.BigDataSize(ref, key) })
}

// ContainerBigDataDigest returns the digest recorded for a data item of a container.
func (s *Store) ContainerBigDataDigest(ctx context.Context, ref, key string) (digest.Digest, error) {
	return viewContainer(ctx, s, func(tx *containers.ReadTx) (digest.Digest, error) {
		return tx.BigDataDigest(ref, key)
	})
}

// SetContainerBigData stores a data item with a container, in place of one that has the
// same key.
func (s *Store) SetContainerBigData(ctx context.Context, ref, key string, data []byte) error {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	return r.Containers.Update(ctx, func(tx *containers.WriteTx) error {
		return tx.SetBigData(ref, containers.Item{Key: key, Data: data})
	})
}

// ContainerDirectory makes and returns a directory in the graph root for those who use
// the container. It goes with the container.
func (s *Store) ContainerDirectory(ctx context.Context, ref string) (string, error) {
	return viewContainer(ctx, s, func(tx *containers.ReadTx) (string, error) { return tx.Directory(ref) })
}

// ContainerRunDirectory is ContainerDirectory in the run root.
func (s *Store) ContainerRunDirectory(ctx context.Context, ref string) (string, error) {
	return viewContainer(ctx, s, func(tx *containers.ReadTx) (string, error) { return tx.RunDirectory(ref) })
}

// ContainerSize adds up, in bytes, what a container's layer has changed, its data items
// and its two directories.
func (s *Store) ContainerSize(ctx context.Context, ref string) (int64, error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	container, err := s.Container(ctx, ref)
	if err != nil {
		return 0, err
	}
	total, err := roots.Layers.DiffSize(ctx, container.LayerID, "")
	if err != nil {
		return 0, fmt.Errorf("container %s: %w", container.ID, err)
	}
	for _, key := range container.BigDataNames {
		size, err := s.ContainerBigDataSize(ctx, container.ID, key)
		if err != nil {
			return 0, err
		}
		total += size
	}
	for _, directory := range []func(context.Context, string) (string, error){
		s.ContainerDirectory, s.ContainerRunDirectory} {
		dir, err := directory(ctx, container.ID)
		if err != nil {
			return 0, err
		}
		tree, err := diskusage.Count(ctx, dir)
		if err != nil {
			return 0, err
		}
		total += tree.Size
	}
	return total, nil
}
