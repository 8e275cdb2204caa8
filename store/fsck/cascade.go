package fsck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/mount"
	"github.com/shalestore/shale/store/internal/roots"
)

// delete deletes what is beyond repair, with all that needs it.
func (r *repair) delete(ctx context.Context, findings []Finding) {
	var gone []Object
	var refused map[Object]error
	err := r.UpdateAll(ctx, func(l *layers.WriteTx, i *images.WriteTx, c *containers.WriteTx) error {
		d := cascade{layersTx: l, imagesTx: i, containersTx: c, opts: r.opts, mounted: map[string]bool{},
			refused: map[Object]error{}}
		mounted, err := l.MountedLayers(ctx)
		if err != nil {
			return err
		}
		for _, m := range mounted {
			d.mounted[m.ID] = true
		}
		if err := d.addForeignMounts(r.Config.GraphRoot, r.Config.ImageStore); err != nil {
			return err
		}
		for _, f := range findings {
			if err := d.condemn(f); err != nil {
				return err
			}
		}
		refused = d.refused
		err = d.carryOut(ctx)
		gone = d.gone
		return err
	})
	for _, o := range gone {
		r.did(o, "deleted")
	}
	for _, f := range findings {
		switch why := refused[f.Object]; {
		case why != nil && !r.givenUp[f.Object]:
			r.failed(f.Object, why)
		case err != nil:
			r.givenUp[f.Object] = true
		}
	}
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

// cascade works out, under all locks, what goes together with the objects that have to
// go, and then deletes it.
type cascade struct {
	layersTx     *layers.WriteTx
	imagesTx     *images.WriteTx
	containersTx *containers.WriteTx
	opts         RepairOptions
	mounted      map[string]bool

	layers, images, containers []string // to be deleted; layers from the top down
	mapped                     [][2]string
	refused                    map[Object]error
	gone                       []Object
}

// addForeignMounts counts a layer as mounted if anybody has mounted something within its
// directory, which its deletion would take away.
func (d *cascade) addForeignMounts(roots ...string) error {
	for _, root := range roots {
		if root == "" {
			continue
		}
		points, err := mount.Below(root)
		if err != nil {
			return err
		}
		for _, point := range points {
			for name := range strings.SplitSeq(point, "/") { // one of them is the layer's ID
				d.mounted[name] = true
			}
		}
	}
	return nil
}

// condemn adds an object and all that needs it, or nothing, if among that is something
// that must stay: see keeps, and a container that nobody has allowed to go.
func (d *cascade) condemn(f Finding) error {
	plan := cascade{layersTx: d.layersTx, imagesTx: d.imagesTx, containersTx: d.containersTx, opts: d.opts,
		mounted: d.mounted}
	var err error
	switch f.Kind {
	case KindLayer:
		err = plan.layer(f.ID)
	case KindImage:
		err = plan.image(f.ID)
	case KindContainer:
		err = plan.container(f.ID, fmt.Errorf("%s: %w: only force deletes containers", f.Object, errdefs.ErrInUse))
	}
	if f.soft && len(plan.images)+len(plan.containers) > 0 {
		return nil // somebody has begun to use it
	}
	if errors.Is(err, errdefs.ErrInUse) {
		d.refused[f.Object] = err
		return nil
	}
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil // it went with another one
	}
	if err != nil {
		return err
	}
	d.layers, d.images = union(d.layers, plan.layers), union(d.images, plan.images)
	d.containers, d.mapped = union(d.containers, plan.containers), append(d.mapped, plan.mapped...)
	return nil
}

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

func (d *cascade) layer(id string) error {
	if slices.Contains(d.layers, id) {
		return nil
	}
	layer, err := d.layersTx.Get(id)
	if err != nil {
		return err
	}
	if why := d.keeps(layer); why != "" {
		return fmt.Errorf("layer %s: %w: %s", id, errdefs.ErrInUse, why)
	}
	children, err := d.layersTx.Children(layer.ID)
	if err != nil {
		return err
	}
	d.layers = append(d.layers, id) // here already: the chain may be a circle
	for _, child := range children {
		if err := d.layer(child.ID); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
	}
	owner, err := d.containersTx.ByLayer(id)
	if err == nil {
		why := fmt.Errorf("layer %s used by container %s: layer is %w by a container", id, owner.ID, errdefs.ErrInUse)
		if err := d.container(owner.ID, why); err != nil {
			return err
		}
	} else if !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	users, err := d.imagesTx.ByTopLayer(id)
	if err != nil {
		return err
	}
	for _, image := range users {
		if image.TopLayer != id {
			d.mapped = append(d.mapped, [2]string{image.ID, id}) // it can be copied again
			continue
		}
		if err := d.image(image.ID); err != nil {
			return err
		}
	}
	// Children go first.
	d.layers = append(slices.DeleteFunc(d.layers, func(other string) bool { return other == id }), id)
	return nil
}

// keeps says why a layer is never deleted, however damaged it is: it is mounted; or,
// short of force, somebody has given it a name, or may have written into it what is
// nowhere else.
func (d *cascade) keeps(layer layers.Layer) string {
	switch {
	case d.mounted[layer.ID]:
		return "it is mounted, or something in it"
	case d.opts.Force:
	case len(layer.Names) > 0:
		return fmt.Sprintf("it has the name %q", layer.Names[0])
	case layer.DiffID == "" && layer.TOCDigest == "" && !d.opts.DeleteAsPeer:
		return "what it holds is nowhere else"
	}
	return ""
}

func (d *cascade) image(id string) error {
	if slices.Contains(d.images, id) {
		return nil
	}
	image, err := d.imagesTx.Get(id)
	if err != nil {
		return err
	}
	d.images = append(d.images, id)
	users, err := d.containersTx.ByImage(id)
	if err != nil {
		return err
	}
	for _, c := range users {
		why := fmt.Errorf("image %s used by container %s: image is %w by a container", id, c.ID, errdefs.ErrInUse)
		if err := d.container(c.ID, why); err != nil {
			return err
		}
	}
	if !d.opts.DeleteAsPeer {
		return nil // its layers are sound, unless a finding says otherwise
	}
	// The image's layers that nobody else needs go with it, as they do when it is
	// deleted.
	alone, err := roots.UnneededLayers(image, d.layersTx, d.imagesTx, d.containersTx)
	d.layers = union(d.layers, alone)
	return err
}

func (d *cascade) container(id string, why error) error {
	container, err := d.containersTx.Get(id)
	if err != nil {
		return err
	}
	if !d.opts.Force {
		return why
	}
	if d.mounted[container.LayerID] {
		return fmt.Errorf("container %s: %w: it is mounted", id, errdefs.ErrInUse)
	}
	if !slices.Contains(d.containers, id) {
		d.containers = append(d.containers, id)
	}
	return nil
}

// shared reports whether a damaged record gives the container the layer of an image or of
// another container, which isn't to be deleted itself.
func (d *cascade) shared(container containers.Container) (bool, error) {
	if slices.Contains(d.layers, container.LayerID) {
		return false, nil
	}
	users, err := d.imagesTx.ByTopLayer(container.LayerID)
	if err != nil || len(users) > 0 {
		return len(users) > 0, err
	}
	all, err := d.containersTx.All()
	return slices.ContainsFunc(all, func(other containers.Container) bool {
		return other.ID != container.ID && other.LayerID == container.LayerID
	}), err
}

// carryOut deletes from the top down. If it is interrupted, what is left is a smaller
// case of the same.
func (d *cascade) carryOut(ctx context.Context) error {
	for _, id := range d.containers {
		container, err := d.containersTx.Get(id)
		if err != nil {
			return err
		}
		if shared, err := d.shared(container); err != nil {
			return err
		} else if shared {
			container.LayerID = "" // which stays
		}
		if err := roots.DeleteContainer(ctx, container, d.layersTx, d.containersTx); err != nil {
			return err
		}
		d.gone = append(d.gone, Object{KindContainer, id})
	}
	for _, id := range d.images {
		if err := roots.DeleteImage(ctx, id, d.layersTx, d.imagesTx); err != nil {
			return err
		}
		step.Reached(ctx, "repair: image deleted")
		d.gone = append(d.gone, Object{KindImage, id})
	}
	var left []string
	for _, id := range d.layers {
		if _, err := d.layersTx.Get(id); err == nil { // its container may have taken it along
			left = append(left, id)
		}
	}
	if err := d.layersTx.Delete(ctx, left...); err != nil {
		return err
	}
	for _, id := range left {
		d.gone = append(d.gone, Object{KindLayer, id})
	}
	for _, m := range d.mapped {
		if err := d.imagesTx.ForgetMappedLayer(m[0], m[1]); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
	}
	return nil
}
