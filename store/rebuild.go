package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// adopt gives layers a record again that have lost it: those beneath first.
func (r *repair) adopt(ctx context.Context, findings []Finding) {
	roots, err := r.store.Roots(ctx)
	if err != nil {
		r.errs = append(r.errs, err)
		return
	}
	waiting := map[string]layers.Found{}
	var ids []string
	for _, f := range findings {
		found, err := roots.Layers.Find(ctx, f.ID, r.mappingFor(ctx, f.ID))
		if err != nil {
			r.failed(f.Object, err)
			continue
		}
		waiting[f.ID] = found
		ids = append(ids, f.ID)
	}
	for len(ids) > 0 {
		id := ids[0]
		for parent := waiting[id].Parent(); slices.Contains(ids, parent); parent = waiting[parent].Parent() {
			id = parent
			if parent == ids[0] {
				break // a circle, which Adopt refuses
			}
		}
		ids = slices.DeleteFunc(ids, func(other string) bool { return other == id })
		object := Object{KindLayer, id}
		err := r.store.updateAll(ctx, func(l *layers.WriteTx, _ *images.WriteTx, _ *containers.WriteTx) error {
			return l.Adopt(ctx, waiting[id])
		})
		if err != nil {
			r.failed(object, err)
			continue
		}
		r.did(object, "made a record for it from its files; names, metadata and the digest of its blob are lost")
	}
}

// mappingFor is the mapping that the owners of a lost layer have on disk, as far as its
// container tells.
func (r *repair) mappingFor(ctx context.Context, id string) idtools.Mapping {
	all, err := r.store.Containers(ctx)
	if err != nil {
		return idtools.Mapping{}
	}
	for _, c := range all {
		if c.LayerID == id {
			return idtools.Mapping{UIDs: c.UIDMap, GIDs: c.GIDMap}
		}
	}
	return idtools.Mapping{}
}

// rebuild unpacks layers anew whose content is damaged, and deletes those for which there
// is no tar.
func (r *repair) rebuild(ctx context.Context, findings []Finding) {
	var lost []Finding
	for _, id := range r.baseFirst(ctx, findings) {
		its := slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return f.ID != id })
		from, err := r.rebuildLayer(ctx, id, slices.ContainsFunc(its, func(f Finding) bool { return f.exact }))
		object := Object{KindLayer, id}
		switch {
		case err == nil && from != "":
			r.did(object, "unpacked anew from %s", from)
		case ctx.Err() != nil:
			return
		case errors.Is(err, errdefs.ErrInUse):
			r.giveUp(object, err) // it may well be rebuilt once it is unmounted
		default:
			lost = append(lost, its[0])
		}
	}
	if len(lost) > 0 {
		r.delete(ctx, lost)
	}
}

// rebuildLayer tries all that can give the layer's tar, and returns which of them did. No
// error and "" is returned when none could.
func (r *repair) rebuildLayer(ctx context.Context, id string, exact bool) (from string, err error) {
	roots, err := r.store.Roots(ctx)
	if err != nil {
		return "", err
	}
	layer, err := r.store.Layer(ctx, id)
	if err != nil {
		return "", err
	}
	for _, source := range r.sources(ctx, layer, exact) {
		err := roots.Layers.Rebuild(ctx, id, source.tar)
		if err == nil {
			return source.name, nil
		}
		if ctx.Err() != nil || errors.Is(err, errdefs.ErrInUse) || errors.Is(err, errdefs.ErrUnsupported) {
			return "", err
		}
	}
	return "", nil
}

// tarSource is where a layer's tar may be had.
type tarSource struct {
	name string
	tar  layers.Source
}

// sources lists them: the layer itself, if only attributes of its files are damaged, all
// layers that have its digest, and what the layer's files make.
func (r *repair) sources(ctx context.Context, layer layers.Layer, exact bool) (all []tarSource) {
	roots, err := r.store.Roots(ctx)
	if err != nil {
		return nil
	}
	if exact {
		all = append(all, tarSource{"its own tar", roots.Layers.Tar(layer.ID)})
	}
	twins, err := r.store.LayersByDiffID(ctx, layer.DiffID)
	if err != nil {
		return all
	}
	for _, twin := range twins {
		switch {
		case twin.ReadOnly: // it may have the very ID
			all = append(all, tarSource{fmt.Sprintf("layer %s of the store %s", twin.ID, twin.Store()),
				roots.Layers.OtherTar(twin)})
		case twin.ID != layer.ID:
			all = append(all, tarSource{"layer " + twin.ID, roots.Layers.Tar(twin.ID)})
		}
	}
	if !exact {
		all = append(all, tarSource{"its files", roots.Layers.FilesTar(layer.ID)})
	}
	return all
}

// restore writes damaged data items again from others that have the same digest, and
// deletes the objects for which there are none.
func (r *repair) restore(ctx context.Context, findings []Finding) {
	var lost []Finding
	for _, f := range findings {
		from, err := r.restoreItem(ctx, f)
		switch {
		case err != nil:
			r.giveUp(f.Object, err)
		case from == "":
			lost = append(lost, f)
		default:
			r.did(f.Object, "restored the data item %q from %s", f.key, from)
		}
	}
	lost = slices.DeleteFunc(lost, func(f Finding) bool {
		f.Remedy = RemedyDelete
		return !r.canDo(f)
	})
	if len(lost) > 0 {
		r.delete(ctx, lost)
	}
}

// restoreItem looks for the item's content among all items of images and containers.
func (r *repair) restoreItem(ctx context.Context, f Finding) (from string, err error) {
	err = r.store.updateAll(ctx, func(_ *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		var want digest.Digest
		var write func(key string, data []byte) error
		switch f.Kind {
		case KindImage:
			image, err := i.Get(f.ID)
			if err != nil {
				return err
			}
			want = image.BigDataDigests[f.key]
			write = func(key string, data []byte) error { return i.RestoreItem(image, key, data) }
		default:
			container, err := c.Get(f.ID)
			if err != nil {
				return err
			}
			want = container.BigDataDigests[f.key]
			write = func(key string, data []byte) error { return c.RestoreItem(container, key, data) }
		}
		if want == "" || want.Validate() != nil {
			return nil
		}
		data, where, err := findItem(want, i, c)
		if err != nil || where == "" {
			return err
		}
		from = where
		return write(f.key, data)
	})
	return from, err
}

// findItem returns a data item whose content has the digest, and where it was.
func findItem(want digest.Digest, i *images.WriteTx, c *containers.WriteTx) ([]byte, string, error) {
	type owner struct {
		Object
		digests map[string]digest.Digest
		read    func(id, key string) ([]byte, error)
	}
	var owners []owner
	allImages, err := i.All()
	if err != nil {
		return nil, "", err
	}
	for _, image := range allImages {
		owners = append(owners, owner{Object{KindImage, image.ID}, image.BigDataDigests, i.BigData})
	}
	allContainers, err := c.All()
	if err != nil {
		return nil, "", err
	}
	for _, container := range allContainers {
		owners = append(owners, owner{Object{KindContainer, container.ID}, container.BigDataDigests, c.BigData})
	}
	for _, o := range owners {
		for key, d := range o.digests {
			if d != want {
				continue
			}
			if data, err := o.read(o.ID, key); err == nil && want.Algorithm().FromBytes(data) == want {
				return data, fmt.Sprintf("%q of %s", key, o.Object), nil
			}
		}
	}
	return nil, "", nil
}
