package layers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/bigdata"
)

// Flaw is something wrong with a layer that is seen without reading its content.
type Flaw struct {
	Kind FlawKind
	Path string // of the file that is wrong, or ""
	Key  string // of the data item
	What string
	// Beneath, for FlawParent, is what the driver's files agree on as lying beneath the
	// layer, nearest first.
	Beneath []string
}

// FlawKind is what a flaw means for repair.
type FlawKind int

const (
	// FlawFiles: the driver can make the small files anew.
	FlawFiles FlawKind = iota
	// FlawParent: the driver's files agree with each other on another parent than the
	// record has.
	FlawParent
	// FlawChain: a parent has no record, or the parents go in a circle.
	FlawChain
	// FlawContent: the content is gone as a whole.
	FlawContent
	// FlawRecipe: the layer came as a tar, and what is kept of that is gone.
	FlawRecipe
	// FlawItem: a data item is gone.
	FlawItem
)

// Inspect is View without tidying up, for who wants to see what there is to tidy up.
func (s *Store) Inspect(ctx context.Context, fn func(tx *ReadTx) error) error {
	return s.view(ctx, fn)
}

// Examine lists what is wrong with a layer, as far as records, links, lists, existence
// and sizes tell. copied says that the layer is known as a copy of another one with other
// owners: such a copy may lack a recipe.
func (tx *ReadTx) Examine(ctx context.Context, layer Layer, copied bool) ([]Flaw, error) {
	var flaws []Flaw
	chain, err := tx.Chain(layer.ID)
	whole := err == nil && chain[len(chain)-1].Parent == ""
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		flaws = append(flaws, Flaw{Kind: FlawChain, Key: chain[len(chain)-1].Parent, What: "layer is missing"})
	case err != nil:
		return nil, err
	case !whole:
		flaws = append(flaws, Flaw{Kind: FlawChain, What: "its parents go in a circle"})
	}
	if e, ok := tx.store.driver.(drivers.Examiner); ok {
		beneath := [][]string{ids(chain[1:])}
		if !whole {
			beneath[0] = []string{layer.Parent}
		}
		found, err := e.Examine(ctx, layer.ID, beneath)
		if err != nil {
			return nil, err
		}
		if whole && len(found) > 0 { // it may be a copy, which is rare and takes a look at all records
			if beneath, err = tx.mayLieBeneath(chain); err != nil {
				return nil, err
			}
			if found, err = e.Examine(ctx, layer.ID, beneath); err != nil {
				return nil, err
			}
		}
		flaws = append(flaws, sorted(found, layer.Parent, whole)...)
	}
	known := slices.ContainsFunc(flaws, func(f Flaw) bool { return f.Kind == FlawContent })
	if !known && !layer.ReadOnly && tx.store.elsewhere(layer.ID) {
		flaws = append(flaws, Flaw{Kind: FlawContent,
			What: "the layer's directory is missing; only another store has it"})
	}
	lost := slices.ContainsFunc(flaws, func(f Flaw) bool { return f.Kind == FlawContent })
	elsewhere := tx.fromElsewhere(layer)
	if layer.DiffID != "" && layer.TOCDigest == "" && !copied && !lost {
		recipe := tx.store.recipeOf(layer)
		if info, err := os.Lstat(recipe); errors.Is(err, os.ErrNotExist) {
			at, serr := tx.store.driver.Stat(ctx, layer.ID)
			if !elsewhere && (serr != nil || ownContent(at)) { // or another store has its tar
				flaws = append(flaws, Flaw{Kind: FlawRecipe, Path: recipe,
					What: "the recipe of the layer's tar is missing"})
			}
		} else if err != nil {
			return nil, err
		} else if !info.Mode().IsRegular() || info.Size() == 0 {
			flaws = append(flaws, Flaw{Kind: FlawRecipe, Path: recipe, What: "the recipe of the layer's tar is empty"})
		}
	}
	return append(flaws, tx.examineItems(layer, elsewhere)...), nil
}

// fromElsewhere reports whether another graph root may have brought the layer: an image
// store, which several can share, has the records and the content of its layers, but
// their recipes and data items stay with whoever made them.
func (tx *ReadTx) fromElsewhere(layer Layer) bool {
	if tx.store.cfg.ImageDir == "" || layer.ReadOnly {
		return false
	}
	file, err := tx.own.FileOf(layer.ID)
	return err == nil && file == tx.store.files.image
}

func (tx *ReadTx) examineItems(layer Layer, elsewhere bool) (flaws []Flaw) {
	for _, key := range layer.BigDataNames {
		_, err := bigdata.Size(tx.store.itemsOf(layer), key)
		switch {
		case elsewhere && errors.Is(err, errdefs.ErrNotFound):
		case errors.Is(err, errdefs.ErrNotFound):
			flaws = append(flaws, Flaw{Kind: FlawItem, Key: key, What: "layer data item is missing"})
		case errors.Is(err, errdefs.ErrInvalid):
			flaws = append(flaws, Flaw{Kind: FlawItem, Key: key, What: "layer data item is no file"})
		case err != nil:
			flaws = append(flaws, Flaw{Kind: FlawItem, Key: key, What: err.Error()})
		}
	}
	return flaws
}

// elsewhere reports whether the driver knows a layer with this ID, and only in read-only
// stores.
func (s *Store) elsewhere(id string) bool {
	placer, ok := s.driver.(drivers.Placer)
	if !ok || len(s.cfg.ReadOnly) == 0 {
		return false
	}
	has := func(dir string) bool {
		if dir == "" {
			return false
		}
		_, err := os.Lstat(placer.ContentIn(filepath.Dir(dir), id))
		return err == nil
	}
	return !has(s.cfg.Dir) && !has(s.cfg.ImageDir) && slices.ContainsFunc(s.cfg.ReadOnly, has)
}

// sorted gives the driver's flaws their kinds. While the records don't say what lies
// beneath, nothing can be said about lists of that.
func sorted(found []drivers.Flaw, parent string, chainKnown bool) (flaws []Flaw) {
	for _, f := range found {
		flaw := Flaw{Kind: FlawFiles, Path: f.Path, What: f.What, Beneath: f.Beneath}
		switch {
		case f.Lost:
			flaw.Kind = FlawContent
		case f.Beneath != nil && (chainKnown || len(f.Beneath) == 0 || f.Beneath[0] != parent):
			flaw.Kind = FlawParent
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
func (tx *ReadTx) mayLieBeneath(chain []Layer) ([][]string, error) {
	const most = 64 // lists; a copy of a copy of a copy is not made
	lists := [][]string{nil}
	for n, layer := range slices.Backward(chain) {
		if n < len(chain)-1 {
			for k := range lists {
				lists[k] = append([]string{chain[n+1].ID}, lists[k]...)
			}
		}
		originals, err := tx.records.Find(keyParent, layer.Parent)
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

func ids(all []Layer) []string {
	list := make([]string, len(all))
	for i, l := range all {
		list[i] = l.ID
	}
	return list
}

// Mend has the driver put right what Examine has found of FlawFiles. Layers beneath go
// first.
func (tx *WriteTx) Mend(ctx context.Context, id string) error {
	e, ok := tx.store.driver.(drivers.Examiner)
	if !ok {
		return fmt.Errorf("layer %s: mend: %w by the driver", id, errdefs.ErrUnsupported)
	}
	chain, err := tx.Chain(id)
	if err != nil {
		return err
	}
	lists, err := tx.mayLieBeneath(chain)
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
	return e.Mend(ctx, id, beneath)
}

// SetParent changes what the record says of the layer's parent, and saves it.
func (tx *WriteTx) SetParent(id, parent string) error {
	layer, err := tx.Get(id)
	if err != nil {
		return err
	}
	layer.Parent = parent
	if err := tx.records.Replace(layer); err != nil {
		return err
	}
	return tx.records.Save()
}

// SetDiffSize changes what the record says of the size of the layer's tar, in bytes, and
// saves it.
func (tx *WriteTx) SetDiffSize(id string, size int64) error {
	layer, err := tx.Get(id)
	if err != nil {
		return err
	}
	layer.DiffSize = size
	if err := tx.records.Replace(layer); err != nil {
		return err
	}
	return tx.records.Save()
}

// ForgetItem takes a data item out of a layer's record, and saves it.
func (tx *WriteTx) ForgetItem(id, key string) error {
	layer, err := tx.Get(id)
	if err != nil {
		return err
	}
	layer.BigDataNames = slices.DeleteFunc(slices.Clone(layer.BigDataNames), func(k string) bool { return k == key })
	if err := tx.records.Replace(layer); err != nil {
		return err
	}
	return tx.records.Save()
}
