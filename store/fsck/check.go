package fsck

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/internal/roots"
)

// CheckOptions says how closely Check looks.
type CheckOptions struct {
	// Quick reads no content: records, links, existence and sizes only.
	Quick bool
	// UnusedAfter is how old a layer may become that no image and no container uses,
	// before a note says so. 0 means 24 hours: an image is recorded after its layers. A
	// negative value means at once.
	UnusedAfter time.Duration
	// DeleteAsPeer takes for damage what containers-storage does, and has it deleted:
	// such a layer, unless it is mounted or has a name, or one with such a layer on it;
	// and a layer that lacks a data item. The layers of an image then go with it.
	DeleteAsPeer bool
	// Workers is how many layers are read at the same time; 0 means as many as there are
	// processors, up to four.
	Workers int
	// Progress is called now and then with the bytes of layers read so far and in all;
	// nil for none. Calls don't overlap.
	Progress func(done, total int64)
}

// Check looks for damage and for garbage, and changes nothing.
//
// Imports, deletions and whatever else go on meanwhile. What they are at work on isn't
// reported. Content that differs is looked at again if its layer was changed meanwhile.
//
// Damage is no error. A file of records that can't be read is a finding, and then the
// only one: without it nothing can be said about the others.
func Check(ctx context.Context, s *store.Store, opts CheckOptions) (Report, error) {
	return check(ctx, s, opts, learned{})
}

// learned is what earlier rounds of a repair have found out.
type learned struct {
	content  map[string]bool // the only layers whose content is to be read; nil for all
	hopeless map[Object]bool // those for which a remedy didn't help
	damaged  []string        // the kinds of which files of records were damaged
}

// checker is one look at a store.
type checker struct {
	*roots.Roots
	learned
	opts CheckOptions

	// What a store above has as well is never used of those below: each ID is there once.
	layers     []layers.Layer
	images     []images.Image
	containers []containers.Container
	byID       map[string]*layers.Layer

	lost       []string        // the kinds of which records were lost
	unrecorded map[Object]bool // those whose files are there and whose record isn't
	unreadable map[string]bool // layers whose content can't be looked at
	mounted    map[string]bool // layers that are listed as mounted

	mu sync.Mutex // guards the report while content is read
	Report
}

func newChecker(r *roots.Roots, opts CheckOptions, l learned) (*checker, error) {
	c := &checker{Roots: r, opts: opts, learned: l, unrecorded: map[Object]bool{}, unreadable: map[string]bool{},
		mounted: map[string]bool{}}
	var err error
	c.lost, err = c.lostKinds()
	return c, err
}

func check(ctx context.Context, s *store.Store, opts CheckOptions, l learned) (Report, error) {
	report, blocked, err := misplaced(s.Config())
	if err != nil || blocked {
		return report, err
	}
	r, err := s.Roots(ctx)
	if err != nil {
		return report, err
	}
	c, err := newChecker(r, opts, l)
	if err != nil {
		return report, err
	}
	c.Report = report
	stale, err := c.stale(ctx)
	if err != nil {
		return c.Report, err
	}
	if err := c.readRecords(ctx); err != nil || len(c.Of(KindRecords)) > 0 {
		return c.Report, err
	}
	if err := c.survey(ctx); err != nil {
		return c.Report, err
	}
	if err := c.checkTokens(); err != nil {
		return c.Report, err
	}
	if !opts.Quick {
		if err := c.checkContent(ctx); err != nil {
			return c.Report, err
		}
	}
	c.affects()
	c.name()
	if err := c.checkStale(ctx, stale); err != nil {
		return c.Report, err
	}
	kinds := []Kind{KindRecords, KindLayer, KindImage, KindContainer, KindFile}
	slices.SortStableFunc(c.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind))
	})
	return c.Report, nil
}

// survey looks under the locks at all records and at what they promise, and for what none
// of them knows.
func (c *checker) survey(ctx context.Context) error {
	return c.InspectAll(ctx, func(l *layers.ReadTx, i *images.ReadTx, k *containers.ReadTx) error {
		if err := c.load(l, i, k); err != nil {
			return err
		}
		if err := c.checkStrays(ctx, l); err != nil {
			return err
		}
		if err := c.checkMounts(ctx, l); err != nil {
			return err
		}
		if err := c.contradictions(l, i, k); err != nil {
			return err
		}
		if err := c.checkLayers(ctx, l); err != nil {
			return err
		}
		c.checkImages(i)
		c.checkContainers(k)
		c.unused()
		return nil
	})
}

// load reads all records.
func (c *checker) load(l *layers.ReadTx, i *images.ReadTx, k *containers.ReadTx) (err error) {
	if c.layers, err = l.All(); err != nil {
		return err
	}
	if c.images, err = i.All(); err != nil {
		return err
	}
	if c.containers, err = k.All(); err != nil {
		return err
	}
	c.layers = firstOfEach(c.layers, func(l layers.Layer) string { return l.ID })
	c.images = firstOfEach(c.images, func(i images.Image) string { return i.ID })
	c.byID = map[string]*layers.Layer{}
	for n := range c.layers {
		c.byID[c.layers[n].ID] = &c.layers[n]
	}
	return nil
}

func firstOfEach[R any](all []R, id func(R) string) []R {
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(r R) bool {
		again := seen[id(r)]
		seen[id(r)] = true
		return again
	})
}

// chain lists a layer and those beneath it, as far as they have records, from the top
// down.
func (c *checker) chain(id string) (chain []*layers.Layer) {
	// damaged records may make a circle
	for layer := c.byID[id]; layer != nil && len(chain) < len(c.layers); layer = c.byID[layer.Parent] {
		chain = append(chain, layer)
	}
	return chain
}

// unused notes the layers that nothing uses and that are older than whoever makes an
// image takes. They are no damage: somebody may be at work on them.
func (c *checker) unused() {
	used, kept := map[string]bool{}, map[string]bool{} // kept: by DeleteAsPeer
	use := func(in map[string]bool, id string) {
		for _, layer := range c.chain(id) {
			in[layer.ID] = true
		}
	}
	for _, image := range c.images {
		use(used, image.TopLayer)
		for _, id := range image.MappedLayers {
			use(used, id)
		}
	}
	for _, container := range c.containers {
		use(used, container.LayerID)
	}
	for _, layer := range c.layers {
		if len(layer.Names) > 0 || c.mounted[layer.ID] {
			use(kept, layer.ID)
		}
	}
	age := cmp.Or(c.opts.UnusedAfter, 24*time.Hour)
	limit := time.Now().Add(-max(age, 0))
	for _, layer := range c.layers {
		switch {
		case layer.ReadOnly, used[layer.ID], age >= 0 && !layer.Created.Before(limit):
		case c.opts.DeleteAsPeer && !kept[layer.ID]:
			c.add(KindLayer, layer.ID, RemedyDelete, "layer not referenced by any images or containers").soft = true
		default:
			c.note(KindLayer, layer.ID, "no image and no container uses it")
		}
	}
}

// name gives the findings the names of their objects.
func (c *checker) name() {
	c.names = map[Object][]string{}
	for _, layer := range c.layers {
		c.names[Object{KindLayer, layer.ID}] = layer.Names
	}
	for _, image := range c.images {
		c.names[Object{KindImage, image.ID}] = image.Names
	}
	for _, k := range c.containers {
		c.names[Object{KindContainer, k.ID}] = k.Names
	}
	for _, list := range [][]Finding{c.Findings, c.Notes} {
		for n := range list {
			list[n].Names = c.names[list[n].Object]
		}
	}
}

// affects notes which layers, images and containers need what was found damaged.
func (c *checker) affects() {
	users := map[string][]Object{}
	note := func(id string, user Object) {
		for _, layer := range c.chain(id) {
			if (Object{KindLayer, layer.ID}) != user {
				users[layer.ID] = append(users[layer.ID], user)
			}
		}
	}
	for _, layer := range c.layers {
		note(layer.ID, Object{KindLayer, layer.ID})
	}
	for _, image := range c.images {
		note(image.TopLayer, Object{KindImage, image.ID})
	}
	for _, container := range c.containers {
		note(container.LayerID, Object{KindContainer, container.ID})
	}
	for n := range c.Findings {
		f := &c.Findings[n]
		switch {
		case f.Kind == KindLayer && len(f.Affects) == 0 &&
			(f.Remedy == RemedyRebuild || f.Remedy == RemedyDelete || f.ReadOnly):
			f.Affects = users[f.ID]
		case f.Kind == KindImage && (f.Remedy == RemedyRestore || f.Remedy == RemedyDelete || f.ReadOnly):
			for _, container := range c.containers {
				if container.ImageID == f.ID {
					f.Affects = append(f.Affects, Object{KindContainer, container.ID})
				}
			}
		}
	}
}
