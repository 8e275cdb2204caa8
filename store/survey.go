package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// survey is what Check learns under the locks, without reading content.
type survey struct {
	Report
	opts       CheckOptions
	layers     []layers.Layer
	images     []images.Image
	containers []containers.Container
	byID       map[string]*layers.Layer
	lost       map[string]bool // layers whose files are there and whose record isn't
	lostRecords
	unreadable map[string]bool // layers whose content can't be looked at
}

// survey looks at all records and at what they promise, and for what none of them knows.
func (s *Store) survey(ctx context.Context, opts CheckOptions) (*survey, error) {
	v := &survey{opts: opts, byID: map[string]*layers.Layer{}, lost: map[string]bool{}, unreadable: map[string]bool{}}
	var err error
	if v.lostRecords, err = s.lost(ctx, opts.damaged...); err != nil {
		return nil, err
	}
	r, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	err = r.InspectAll(ctx, func(l *layers.ReadTx, i *images.ReadTx, c *containers.ReadTx) (err error) {
		if v.layers, err = l.All(); err != nil {
			return err
		}
		if v.images, err = i.All(); err != nil {
			return err
		}
		if v.containers, err = c.All(); err != nil {
			return err
		}
		// What a store above has as well is never used of those below.
		v.layers = firstOfEach(v.layers, func(l layers.Layer) string { return l.ID })
		v.images = firstOfEach(v.images, func(i images.Image) string { return i.ID })
		for n := range v.layers {
			v.byID[v.layers[n].ID] = &v.layers[n]
		}
		for _, look := range []func() error{
			func() error { return v.garbage(ctx, l, i, c) },
			func() error { return v.contradictions(l, i, c) },
			func() error { return v.lookAtLayers(ctx, l) },
			func() error { return v.lookAtImages(i) },
			func() error { return v.lookAtContainers(c) },
		} {
			if err := look(); err != nil {
				return err
			}
		}
		v.unused()
		return nil
	})
	return v, err
}

func firstOfEach[R any](all []R, id func(R) string) []R {
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(r R) bool {
		again := seen[id(r)]
		seen[id(r)] = true
		return again
	})
}

// garbage reports what belongs to nothing, and layers that have lost their record.
func (v *survey) garbage(ctx context.Context, l *layers.ReadTx, i *images.ReadTx, c *containers.ReadTx) error {
	incomplete, err := l.Incomplete()
	if err != nil {
		return err
	}
	for _, id := range incomplete {
		v.add(KindLayer, id, RemedyDiscard, "incomplete: a program that is gone was making or deleting it")
	}
	orphans, needed, err := findOrphans(ctx, v.lostRecords, l, i, c)
	if err != nil {
		return err
	}
	for _, need := range needed {
		lost := Object{KindLayer, need.layer}
		if v.opts.hopeless[lost] {
			continue // repair will do without it
		}
		v.lost[need.layer] = true
		f := v.add(KindLayer, need.layer, RemedyAdopt, "%s", need)
		if need.by.ID != "" {
			f.Affects = []Object{need.by}
		}
	}
	for _, id := range orphans.Layers {
		v.add(KindLayer, id, RemedyDiscard, "layer in lower level storage driver not accounted for")
	}
	for _, path := range orphans.Files {
		v.add(KindFile, path, RemedyDiscard, "it belongs to nothing that is recorded")
	}
	forgotten, err := l.ForgottenMounts(ctx)
	for _, id := range forgotten {
		v.add(KindLayer, id, RemedyForget, "it is listed as mounted, and there is no such layer")
	}
	return err
}

func (v *survey) contradictions(l *layers.ReadTx, i *images.ReadTx, c *containers.ReadTx) error {
	for _, records := range []struct {
		kind Kind
		list func() ([]catalog.Contradiction, error)
	}{{KindLayer, l.Contradictions}, {KindImage, i.Contradictions}, {KindContainer, c.Contradictions}} {
		all, err := records.list()
		if err != nil {
			return err
		}
		for _, c := range all {
			v.add(records.kind, c.ID, RemedyRecord, "%s", c.What)
		}
	}
	return nil
}

// flawRemedies tells what is done about the flaws of layers.
var flawRemedies = map[layers.FlawKind]Remedy{
	layers.FlawFiles:   RemedyMend,
	layers.FlawParent:  RemedyRecord,
	layers.FlawChain:   RemedyDelete,
	layers.FlawContent: RemedyRebuild,
	layers.FlawRecipe:  RemedyRebuild,
	layers.FlawItem:    RemedyDelete,
}

func (v *survey) lookAtLayers(ctx context.Context, l *layers.ReadTx) error {
	copies := map[string]bool{}
	for _, image := range v.images {
		for _, id := range image.MappedLayers {
			copies[id] = true
		}
	}
	flaws := make([][]layers.Flaw, len(v.layers))
	misled := map[string]bool{} // layers whose record has a wrong parent
	for n, layer := range v.layers {
		var err error
		if flaws[n], err = l.Examine(ctx, layer, copies[layer.ID]); err != nil {
			return err
		}
		if slices.ContainsFunc(flaws[n], func(f layers.Flaw) bool { return f.Kind == layers.FlawParent }) {
			misled[layer.ID] = true
		}
	}
	for n, layer := range v.layers {
		v.layerFlaws(layer, flaws[n], misled)
	}
	return nil
}

// inCircle reports whether the layer is its own ancestor, and whether one of that circle
// has a wrong parent.
func (v *survey) inCircle(id string, misled map[string]bool) (in, explained bool) {
	at := id
	for range v.layers {
		layer := v.byID[at]
		if layer == nil {
			return false, explained
		}
		explained = explained || misled[at]
		if at = layer.Parent; at == id {
			return true, explained
		}
	}
	return false, explained
}

func (v *survey) layerFlaws(layer layers.Layer, flaws []layers.Flaw, misled map[string]bool) {
	for _, flaw := range flaws {
		remedy, what := flawRemedies[flaw.Kind], flaw.What
		switch flaw.Kind {
		case layers.FlawChain:
			if v.lost[flaw.Key] {
				continue // it is what is wrong, not this one
			}
			if misled[layer.ID] {
				continue // the record names a wrong one
			}
			if flaw.Key == "" {
				if in, explained := v.inCircle(layer.ID, misled); !in || explained {
					continue
				}
			} else {
				if flaw.Key != layer.Parent {
					continue // the one above it says so
				}
				what = "parent layer " + flaw.Key + ": " + what
			}
		case layers.FlawItem:
			if flaw.Key == cacheItem {
				remedy = RemedyForget
			}
			what = describeItem(flaw.Key, "%s", what)
		case layers.FlawContent:
			v.unreadable[layer.ID] = true
		}
		if flaw.Kind == layers.FlawContent && layer.DiffID == "" || v.opts.hopeless[Object{KindLayer, layer.ID}] {
			remedy = RemedyDelete
		}
		f := v.add(KindLayer, layer.ID, remedy, "%s", what)
		f.Path, f.key, f.parents = flaw.Path, flaw.Key, flaw.Beneath
		f.inOther(layer.ReadOnly)
	}
}

// cacheItem is a data item that containers/storage makes again when it is missing
// (format, section 10.5).
const cacheItem = "chunked-manifest-cache"

func (v *survey) lookAtImages(i *images.ReadTx) error {
	for _, image := range v.images {
		if id := image.TopLayer; id != "" && v.byID[id] == nil && !v.lost[id] {
			v.add(KindImage, image.ID, RemedyDelete, "layer %s: image layer is missing", id).inOther(image.ReadOnly)
		}
		for _, id := range image.MappedLayers {
			if v.byID[id] == nil && !v.lost[id] {
				f := v.add(KindImage, image.ID, RemedyForget, "layer %s: image layer is missing", id)
				f.other = id
				f.inOther(image.ReadOnly)
			}
		}
		if what := image.InvalidDigest(); what != "" {
			f := v.add(KindImage, image.ID, RemedyRecord, "%s", what)
			f.key = "digests"
			if v.opts.hopeless[f.Object] {
				f.Remedy = RemedyDelete
			}
			f.inOther(image.ReadOnly)
		}
		for _, key := range image.BigDataNames {
			size, err := i.ItemSize(image, key)
			if f := v.item(KindImage, image.ID, key, size, image.BigDataSizes, err); f != nil {
				f.inOther(image.ReadOnly)
			}
		}
	}
	return nil
}

// item judges the size of a data item; it returns what it has found, or nil.
func (v *survey) item(kind Kind, id, key string, size int64, recorded map[string]int64, err error) *Finding {
	remedy := RemedyRestore
	if v.opts.hopeless[Object{kind, id}] {
		remedy = RemedyDelete
	}
	what := ""
	want, known := recorded[key]
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		what = fmt.Sprintf("%s data item is missing", kind)
	case err != nil:
		what = err.Error()
	case known && size != want:
		what = fmt.Sprintf("%s data item has incorrect size, %d instead of %d", kind, size, want)
	default:
		return nil
	}
	f := v.add(kind, id, remedy, "%s", describeItem(key, "%s", what))
	f.key = key
	return f
}

func (v *survey) lookAtContainers(c *containers.ReadTx) error {
	known := map[string]bool{}
	for _, image := range v.images {
		known[image.ID] = true
	}
	owners := v.owners()
	for _, container := range v.containers {
		if id := container.ImageID; id != "" && !known[id] {
			v.add(KindContainer, container.ID, RemedyDelete, "image %s: image missing", id)
		}
		if id := container.LayerID; v.byID[id] == nil && !v.lost[id] {
			v.add(KindContainer, container.ID, RemedyDelete, "layer %s: layer is missing", id)
		} else if owner := owners[id]; v.byID[id] != nil && owner != (Object{KindContainer, container.ID}) {
			v.add(KindContainer, container.ID, RemedyDelete,
				"layer %s: it is the layer of %s, and would be deleted with the container", id, owner)
		}
		for _, key := range container.BigDataNames {
			size, err := c.ItemSize(container.ID, key)
			v.item(KindContainer, container.ID, key, size, container.BigDataSizes, err)
		}
	}
	return nil
}

// owners tells whose layer each is: of several containers, of the one whose image lies
// beneath. Where it lies beneath none of them the layer is that of the image whose top
// layer or copy of it it is, if any. An image may well be made of a container's layer,
// and doesn't own it.
func (v *survey) owners() map[string]Object {
	// a container without an image lies on nothing
	owners, beneath := map[string]Object{}, map[string][]string{"": {""}}
	for _, image := range v.images {
		beneath[image.ID] = append([]string{image.TopLayer}, image.MappedLayers...)
	}
	fits := func(c containers.Container, layer *layers.Layer) bool {
		return slices.Contains(beneath[c.ImageID], layer.Parent)
	}
	for _, ours := range []bool{true, false} {
		for _, container := range v.containers {
			layer := v.byID[container.LayerID]
			if layer != nil && fits(container, layer) == ours && owners[layer.ID].ID == "" {
				owners[layer.ID] = Object{KindContainer, container.ID}
			}
		}
		for _, image := range v.images {
			for _, id := range beneath[image.ID] {
				if owners[id].ID == "" {
					owners[id] = Object{KindImage, image.ID}
				}
			}
		}
	}
	return owners
}

// unused reports the layers that nothing uses and that are older than whoever makes an
// image takes.
func (v *survey) unused() {
	used := map[string]bool{}
	use := func(id string) {
		for layer := v.byID[id]; layer != nil && !used[layer.ID]; layer = v.byID[layer.Parent] {
			used[layer.ID] = true
		}
	}
	for _, image := range v.images {
		for _, id := range append([]string{image.TopLayer}, image.MappedLayers...) {
			use(id)
		}
	}
	for _, container := range v.containers {
		use(container.LayerID)
	}
	age := v.opts.UnusedAfter
	if age == 0 {
		age = 24 * time.Hour
	}
	limit := time.Now().Add(-max(age, 0))
	for _, layer := range v.layers {
		if !layer.ReadOnly && !used[layer.ID] && (age < 0 || layer.Created.Before(limit)) {
			v.add(KindLayer, layer.ID, RemedyDelete, "layer not referenced by any images or containers").soft = true
		}
	}
}

// affects notes which images and containers need the layers that were found damaged.
func (v *survey) affects(report *Report) {
	users := map[string][]Object{}
	note := func(id string, user Object) {
		seen := map[string]bool{}
		for layer := v.byID[id]; layer != nil && !seen[layer.ID]; layer = v.byID[layer.Parent] {
			seen[layer.ID] = true
			users[layer.ID] = append(users[layer.ID], user)
		}
	}
	for _, image := range v.images {
		note(image.TopLayer, Object{KindImage, image.ID})
	}
	for _, container := range v.containers {
		note(container.LayerID, Object{KindContainer, container.ID})
	}
	for n := range report.Findings {
		f := &report.Findings[n]
		switch {
		case f.Kind == KindLayer && (f.Remedy == RemedyRebuild || f.Remedy == RemedyDelete) && len(f.Affects) == 0:
			f.Affects = users[f.ID]
		case f.Kind == KindImage && (f.Remedy == RemedyRestore || f.Remedy == RemedyDelete):
			for _, container := range v.containers {
				if container.ImageID == f.ID {
					f.Affects = append(f.Affects, Object{KindContainer, container.ID})
				}
			}
		}
	}
}
