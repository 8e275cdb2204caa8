package fsck

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/examine"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/layers"
)

// flaw is something wrong with a layer that is seen without reading its content.
type flaw struct {
	kind flawKind
	path string // of the file that is wrong, or ""
	key  string // of the data item, or the parent that is missing
	what string
	// parents, for a wrongParent, is what the driver's files agree on as lying beneath
	// the layer, nearest first.
	parents []string
}

// flawKind is what a flaw means for repair.
type flawKind int

const (
	smallFiles  flawKind = iota // the driver can make them anew
	wrongParent                 // the driver's files agree with each other on another one than the record has
	brokenChain                 // a parent has no record, or the parents go in a circle
	noContent                   // the content is gone as a whole
	noTarSplit                  // the layer came as a tar, and what is kept of that is gone
	noItem                      // a data item is gone
)

var flawRemedies = map[flawKind]Remedy{
	smallFiles:  RemedyMend,
	wrongParent: RemedyRecord,
	brokenChain: RemedyDelete,
	noContent:   RemedyRebuild,
	noTarSplit:  RemedyRebuild,
	noItem:      RemedyDelete, // as the peer
}

// cacheItem is a data item that containers/storage makes again when it is missing
// (format, section 10.5).
const cacheItem = "chunked-manifest-cache"

// checkLayers reports what is wrong with layers, as far as records, links, lists,
// existence and sizes tell.
func (c *checker) checkLayers(ctx context.Context, l *layers.ReadTx) error {
	copies := map[string]bool{}
	for _, image := range c.images {
		for _, id := range image.MappedLayers {
			copies[id] = true
		}
	}
	flaws := make([][]flaw, len(c.layers))
	misled := map[string]bool{} // layers whose record has a wrong parent
	for n, layer := range c.layers {
		var err error
		if flaws[n], err = c.examine(ctx, l, layer, copies[layer.ID]); err != nil {
			return err
		}
		misled[layer.ID] = slices.ContainsFunc(flaws[n], func(f flaw) bool { return f.kind == wrongParent })
	}
	for n, layer := range c.layers {
		for _, flaw := range flaws[n] {
			c.layerFlaw(layer, flaw, misled)
		}
	}
	return nil
}

func (c *checker) layerFlaw(layer layers.Layer, flaw flaw, misled map[string]bool) {
	remedy, what := flawRemedies[flaw.kind], flaw.what
	switch flaw.kind {
	case brokenChain:
		in, explained := c.inCircle(layer.ID, misled)
		switch {
		case c.unrecorded[Object{KindLayer, flaw.key}], misled[layer.ID]: // that is what is wrong
			return
		case flaw.key == "" && (!in || explained), flaw.key != "" && flaw.key != layer.Parent: // another one says so
			return
		case flaw.key != "":
			what = "parent layer " + flaw.key + ": " + what
		}
	case noItem:
		// The content is sound. containers-storage makes its cache again.
		if !c.opts.DeleteAsPeer || flaw.key == cacheItem {
			remedy = RemedyForget
		}
		what = describeItem(flaw.key, "%s", what)
	case noContent:
		c.unreadable[layer.ID] = true
	}
	if flaw.kind == noContent && layer.DiffID == "" || c.hopeless[Object{KindLayer, layer.ID}] && flaw.kind != noItem {
		remedy = RemedyDelete
	}
	f := c.add(KindLayer, layer.ID, remedy, "%s", what)
	f.Path = flaw.path
	if e, ok := c.Driver.(drivers.Measurer); ok && flaw.kind == noContent && (layer.ReadOnly || flaw.path == "") {
		root := layer.Store() // the driver has looked everywhere
		if root == "" {
			root = filepath.Dir(c.Layers.Config().Dir)
		}
		f.Path = e.ContentIn(root, layer.ID)
	}
	f.inOther(layer.ReadOnly)
	switch f.Remedy {
	case RemedyRecord:
		parent := append(flaw.parents, "")[0]
		f.fix = c.editLayer(layer.ID, "recorded "+quoted(parent)+" as its parent", func(l *layers.Layer) {
			l.Parent = parent
		})
	case RemedyForget:
		f.fix = c.editLayer(layer.ID, "forgot the data item "+flaw.key, func(l *layers.Layer) {
			l.BigDataNames = slices.DeleteFunc(l.BigDataNames, func(key string) bool { return key == flaw.key })
		})
	case RemedyMend:
		f.fix = func(ctx context.Context) (string, error) {
			return "made its small files anew", c.Layers.Update(ctx, func(tx *layers.WriteTx) error {
				return c.mend(ctx, &tx.ReadTx, layer.ID)
			})
		}
	}
}

// editLayer is a remedy that changes the record of a layer.
func (c *checker) editLayer(id, did string, change func(*layers.Layer)) func(context.Context) (string, error) {
	return c.edit(did, func(l *layers.WriteTx, _ *images.WriteTx, _ *containers.WriteTx) error {
		layer, err := l.Get(id)
		if err != nil {
			return err
		}
		change(&layer)
		return l.Replace(layer)
	})
}

// inCircle reports whether the layer is its own ancestor, and whether one of that circle
// has a wrong parent.
func (c *checker) inCircle(id string, misled map[string]bool) (in, explained bool) {
	at := id
	for range c.layers {
		layer := c.byID[at]
		if layer == nil {
			break
		}
		explained = explained || misled[at]
		if at = layer.Parent; at == id {
			return true, explained
		}
	}
	return false, explained
}

// examine lists what is wrong with a layer. copied says that the layer is known as a copy
// of another one with other owners: such a copy may lack a tar-split file.
func (c *checker) examine(ctx context.Context, l *layers.ReadTx, layer layers.Layer, copied bool) ([]flaw, error) {
	var flaws []flaw
	chain, err := l.Chain(layer.ID)
	whole := err == nil && chain[len(chain)-1].Parent == ""
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		flaws = append(flaws, flaw{kind: brokenChain, key: chain[len(chain)-1].Parent, what: "layer is missing"})
	case err != nil:
		return nil, err
	case !whole:
		flaws = append(flaws, flaw{kind: brokenChain, what: "its parents go in a circle"})
	}
	beneath := [][]string{ids(chain[1:])}
	if !whole {
		beneath[0] = []string{layer.Parent}
	}
	found, err := examine.Of(c.Driver).Examine(ctx, layer.ID, beneath)
	if err != nil {
		return nil, err
	}
	if whole && len(found) > 0 { // it may be a copy, which is rare and takes a look at all records
		if beneath, err = mayLieBeneath(l, chain); err != nil {
			return nil, err
		}
		if found, err = examine.Of(c.Driver).Examine(ctx, layer.ID, beneath); err != nil {
			return nil, err
		}
	}
	flaws = append(flaws, sorted(found, layer.Parent, whole)...)
	lost := slices.ContainsFunc(flaws, func(f flaw) bool { return f.kind == noContent })
	if !lost && !layer.ReadOnly && c.elsewhere(layer.ID) {
		lost = true
		flaws = append(flaws, flaw{kind: noContent,
			what: "the layer's directory is missing; only another store has it"})
	}
	// An image store, which several graph roots can share, has the records and the
	// content of its layers, but tar-split files and data items stay with whoever made
	// them.
	shared := !layer.ReadOnly && l.InImageStore(layer.ID)
	if layer.DiffID != "" && layer.TOCDigest == "" && !copied && !lost {
		path := c.Layers.TarSplit(layer)
		if info, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			at, serr := c.Driver.Stat(ctx, layer.ID)
			if !shared && (serr != nil || ownContent(at)) { // or another store has its tar
				flaws = append(flaws, flaw{kind: noTarSplit, path: path,
					what: "the recipe of the layer's tar is missing"})
			}
		} else if err != nil {
			return nil, err
		} else if !info.Mode().IsRegular() || info.Size() == 0 {
			flaws = append(flaws, flaw{kind: noTarSplit, path: path, what: "the recipe of the layer's tar is empty"})
		}
	}
	for _, key := range layer.BigDataNames {
		var what string
		switch _, err := bigdata.Size(c.Layers.Items(layer), key); {
		case err == nil, shared && errors.Is(err, errdefs.ErrNotFound):
			continue
		case errors.Is(err, errdefs.ErrNotFound):
			what = "layer data item is missing"
		case errors.Is(err, errdefs.ErrCorrupt):
			what = "layer data item is no file"
		default:
			what = err.Error()
		}
		flaws = append(flaws, flaw{kind: noItem, key: key, what: what})
	}
	return flaws, nil
}

// elsewhere reports whether the driver knows a layer with this ID, and only in read-only
// stores.
func (c *checker) elsewhere(id string) bool {
	examiner, ok := c.Driver.(drivers.Measurer)
	places := c.Layers.Config()
	if !ok || len(places.ReadOnly) == 0 {
		return false
	}
	has := func(dir string) bool {
		if dir == "" {
			return false
		}
		_, err := os.Lstat(examiner.ContentIn(filepath.Dir(dir), id))
		return err == nil
	}
	return !has(places.Dir) && !has(places.ImageDir) && slices.ContainsFunc(places.ReadOnly, has)
}

// sorted gives the driver's flaws their kinds. While the records don't say what lies
// beneath, nothing can be said about lists of that.
func sorted(found []examine.Flaw, parent string, chainKnown bool) (flaws []flaw) {
	for _, f := range found {
		flaw := flaw{kind: smallFiles, path: f.Path, what: f.What, parents: f.Lower}
		switch {
		case f.Lost:
			flaw.kind = noContent
		case f.Lower != nil && (chainKnown || len(f.Lower) == 0 || f.Lower[0] != parent):
			flaw.kind = wrongParent
		case !chainKnown:
			continue
		}
		flaws = append(flaws, flaw)
	}
	return flaws
}

// mayLieBeneath returns what the driver may rightly have beneath the first layer of a
// chain: its parents. A copy of a layer with other owners lies on the original as well,
// wherever in the chain it is.
func mayLieBeneath(l *layers.ReadTx, chain []layers.Layer) ([][]string, error) {
	const most = 64 // lists; a copy of a copy of a copy is not made
	lists := [][]string{nil}
	for n, layer := range slices.Backward(chain) {
		if n < len(chain)-1 {
			for k := range lists {
				lists[k] = append([]string{chain[n+1].ID}, lists[k]...)
			}
		}
		originals, err := l.Children(layer.Parent)
		if err != nil {
			return nil, err
		}
		plain := slices.Clone(lists)
		for _, o := range originals {
			if o.ID == layer.ID || o.DiffID != layer.DiffID || o.TOCDigest != layer.TOCDigest ||
				o.Mapping().Equal(layer.Mapping()) {
				continue
			}
			for _, list := range plain {
				if len(lists) < most {
					lists = append(lists, append([]string{o.ID}, list...))
				}
			}
		}
	}
	return lists, nil
}

func ids(all []layers.Layer) []string {
	list := make([]string, len(all))
	for i, l := range all {
		list[i] = l.ID
	}
	return list
}

// mend has the driver make the small files of a layer anew. Layers beneath go first.
func (c *checker) mend(ctx context.Context, l *layers.ReadTx, id string) error {
	e := examine.Of(c.Driver)
	chain, err := l.Chain(id)
	if err != nil {
		return err
	}
	lists, err := mayLieBeneath(l, chain)
	if err != nil {
		return err
	}
	flaws, err := e.Examine(ctx, id, lists[:1])
	if err != nil {
		return err
	}
	beneath, fewest := lists[0], len(flaws) // what is already there tells whether it is a copy
	for _, list := range lists[1:] {
		if flaws, err := e.Examine(ctx, id, [][]string{list}); err == nil && len(flaws) < fewest {
			beneath, fewest = list, len(flaws)
		}
	}
	return e.Rewrite(ctx, id, beneath)
}
