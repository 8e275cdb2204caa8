package fsck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/drivers/overlay/examine"
	"github.com/shalestore/shale/internal/bigdata"
	"github.com/shalestore/shale/internal/ident"
	"github.com/shalestore/shale/internal/tempdir"
	"github.com/shalestore/shale/layers"
)

// strays are files that no record names.
type strays struct {
	layers []string // IDs of layers that only the driver has
	files  []string // paths
	needed []need   // layers that have no record, and should have
	spared []string // paths of what may belong to objects whose records were lost
}

// need is a layer without a record that something can't do without, or that may have had
// one among those that were lost: then by is nothing.
type need struct {
	layer string
	by    Object
}

func (n need) String() string {
	if n.by.ID == "" {
		return "its files are there, but it has no record: records of layers were lost"
	}
	return fmt.Sprintf("its files are there and %s needs them, but it has no record", n.by)
}

// owner is who may have files in a directory that is named after him.
type owner struct {
	items string // the directory of his data items
	keys  []string
}

// strays looks for them, after load and under the same locks. Whatever isn't named like
// the store's own files belongs to somebody else (format, section 0.4).
func (c *checker) strays(ctx context.Context, l *layers.ReadTx) (s strays, err error) {
	layerOwners, err := c.strayLayers(ctx, l, &s)
	if err != nil {
		return s, err
	}
	imageOwners, containerOwners := map[string]owner{}, map[string]owner{}
	for _, image := range c.images {
		imageOwners[image.ID] = owner{c.Images.Home(image), image.BigDataNames}
	}
	for _, container := range c.containers {
		containerOwners[container.ID] = owner{c.Containers.Home(container), container.BigDataNames}
	}
	run := c.homes("layers")[len(c.homes("layers"))-1]
	find := func(home string, owners map[string]owner, files *[]string) error {
		found, err := strayFiles(home, owners)
		*files = append(*files, found...)
		return err
	}
	errs := []error{
		find(c.Layers.Config().Dir, layerOwners, &s.files),
		// The table of mounts is written while layers.lock is only shared.
		l.MountTable().View(ctx, func(*catalog.MountsTx) error { return find(run, nil, &s.files) }),
	}
	for kind, owners := range map[string]map[string]owner{"images": imageOwners, "containers": containerOwners} {
		files := &s.files
		if slices.Contains(c.lost, kind) {
			files = &s.spared
		}
		for _, home := range c.homes(kind) {
			errs = append(errs, find(home, owners, files))
		}
	}
	slices.Sort(s.files)
	slices.Sort(s.spared)
	left, err := examine.Of(c.Driver).Leftovers(ctx)
	s.files, errs = append(s.files, left...), append(errs, err)
	return s, errors.Join(errs...)
}

// strayLayers tells the layers without a record that something needs, with all that lies
// beneath them, from the others. It returns who may have files beside the records of
// layers.
func (c *checker) strayLayers(ctx context.Context, l *layers.ReadTx, s *strays) (map[string]owner, error) {
	owners, needs := map[string]owner{}, map[string]Object{}
	incomplete, err := l.Incomplete()
	if err != nil {
		return nil, err
	}
	for _, layer := range append(incomplete, c.layers...) {
		if !layer.ReadOnly {
			owners[layer.ID] = owner{c.Layers.Items(layer), layer.BigDataNames}
		}
	}
	for _, container := range c.containers {
		needs[container.LayerID] = Object{KindContainer, container.ID}
	}
	for _, image := range c.images {
		for _, id := range append([]string{image.TopLayer}, image.MappedLayers...) {
			needs[id] = Object{KindImage, image.ID}
		}
	}
	for _, layer := range c.layers {
		needs[layer.Parent] = Object{KindLayer, layer.ID}
	}
	ids, err := c.Driver.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		_, recorded := owners[id]
		by, needed := needs[id]
		switch {
		case recorded:
		case c.byID[id] != nil: // another store's, which these files only hide
			s.layers = append(s.layers, id)
		case needed || slices.Contains(c.lost, "layers"):
			s.needed = append(s.needed, need{id, by})
		default:
			s.layers = append(s.layers, id)
		}
	}
	for n := 0; n < len(s.needed); n++ { // the list grows
		id := s.needed[n].layer
		owners[id] = owner{} // of all that is named after him
		info, err := c.Driver.Stat(ctx, id)
		if at := slices.Index(s.layers, info.Parent); err == nil && at >= 0 {
			s.needed = append(s.needed, need{info.Parent, Object{KindLayer, id}})
			s.layers = slices.Delete(s.layers, at, at+1)
		}
	}
	return owners, nil
}

// strayFiles lists what nobody owns in a directory that has one directory for each owner,
// and perhaps tar-split files: what is named after somebody who doesn't exist, what
// interrupted writes have left, and files in an owner's directory that are none of his
// items. Directories in there belong to the owner's users. A missing home holds nothing.
func strayFiles(home string, owners map[string]owner) (stray []string, err error) {
	entries, err := readDir(home)
	for _, e := range entries {
		path := filepath.Join(home, e.Name())
		id, tarSplit := strings.CutSuffix(e.Name(), layers.TarSplitSuffix)
		owner, owned := owners[id]
		switch {
		case interrupted(e):
			stray = append(stray, path)
		case owned && e.IsDir():
			inside, err := readDir(path)
			if err != nil {
				return nil, err
			}
			for _, e := range inside {
				if interrupted(e) || e.Type().IsRegular() && path == owner.items && !owner.has(e.Name()) {
					stray = append(stray, filepath.Join(path, e.Name()))
				}
			}
		case !owned && owners != nil && ident.IsDrawn(id) && (e.IsDir() || tarSplit):
			stray = append(stray, path)
		}
	}
	return stray, err
}

// has reports whether a file of the owner's directory is one of his items.
func (o owner) has(file string) bool {
	return slices.ContainsFunc(o.keys, func(key string) bool {
		name, err := bigdata.FileName(key)
		return err == nil && name == file
	})
}

// interrupted recognizes the temporary files of package atomicfile, which
// containers/storage makes under the same name.
func interrupted(e os.DirEntry) bool {
	return e.Type().IsRegular() && strings.HasPrefix(e.Name(), ".tmp-")
}

func readDir(path string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return entries, err
}

// checkStrays reports what belongs to nothing, and layers that have lost their record.
func (c *checker) checkStrays(ctx context.Context, l *layers.ReadTx) error {
	incomplete, err := l.Incomplete()
	if err != nil {
		return err
	}
	for _, layer := range incomplete {
		c.add(KindLayer, layer.ID, RemedyDiscard, "incomplete: a program that is gone was making or deleting it")
	}
	s, err := c.strays(ctx, l)
	if err != nil {
		return err
	}
	for _, need := range s.needed {
		if c.hopeless[Object{KindLayer, need.layer}] {
			continue // repair will do without it
		}
		c.unrecorded[Object{KindLayer, need.layer}] = true
		f := c.add(KindLayer, need.layer, RemedyAdopt, "%s", need)
		if need.by.ID != "" {
			f.Affects = []Object{need.by}
		}
	}
	for _, id := range s.layers {
		c.add(KindLayer, id, RemedyDiscard, "layer in lower level storage driver not accounted for")
	}
	for _, path := range s.files {
		c.add(KindFile, path, RemedyDiscard, "it belongs to nothing that is recorded")
	}
	for _, path := range s.spared {
		c.checkSpared(path)
	}
	return nil
}

// checkSpared reports a directory that may be what is left of an image or a container
// whose record was lost. A record is made again from what is in there, or, where that
// doesn't tell enough, the directory gets a name that nobody collects.
func (c *checker) checkSpared(path string) {
	home, id := filepath.Split(path)
	record := map[string]func(context.Context) (string, error){
		"images":     func(ctx context.Context) (string, error) { return c.adoptImage(ctx, id) },
		"containers": func(ctx context.Context) (string, error) { return c.adoptContainer(ctx, id) },
	}
	for kind, name := range map[string]Kind{"images": KindImage, "containers": KindContainer} {
		homes := c.homes(kind)
		if !slices.Contains(homes[:len(homes)-1], filepath.Clean(home)) || !ident.IsDrawn(id) {
			continue // in the run root, or of an owner with a record
		}
		if !c.hopeless[Object{name, id}] {
			f := c.add(name, id, RemedyAdopt, "its files are there, but it has no record: records of %s were lost",
				kind)
			f.Path, f.fix = path, record[kind]
			c.unrecorded[f.Object] = true
			continue
		}
		c.add(KindFile, path, RemedyAside, "it may belong to an %s whose record was lost", name).fix =
			func(context.Context) (string, error) {
				aside, err := moveAside(path)
				return "moved it to " + aside, err
			}
	}
}

// stale lists the temporary directories and lock files of processes that are gone. No
// lock is needed: each has its own.
func (c *checker) stale(ctx context.Context) (all []string, err error) {
	for _, root := range c.Layers.TempRoots() {
		stale, err := tempdir.Stale(root)
		if err != nil {
			return nil, err
		}
		all = append(all, stale...)
	}
	stale, err := examine.Of(c.Driver).StalePulls(ctx)
	return append(all, stale...), err
}

// checkStale reports what processes that are gone have staged: what was stale before and
// is so still, since a process makes a lock file an instant before it locks it.
func (c *checker) checkStale(ctx context.Context, before []string) error {
	found, err := c.probes(ctx)
	if len(before) > 0 && err == nil {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		var now []string
		now, err = c.stale(ctx)
		found = append(found, slices.DeleteFunc(now,
			func(path string) bool { return !slices.Contains(before, path) })...)
	}
	for _, path := range found {
		c.add(KindFile, path, RemedyDiscard, "left by a process that is gone")
	}
	return err
}

// probeAge is far longer than a test mount takes.
const probeAge = time.Minute

// probes lists the directories of test mounts that nobody uses. Those that
// containers/storage makes when it starts are made and removed under storage.lock; the
// one that asks for ID-mapped mounts is made under no lock at all, when a layer is first
// created, so only age tells that it was left.
func (c *checker) probes(ctx context.Context) ([]string, error) {
	probes, err := examine.Of(c.Driver).Probes(ctx)
	old := time.Now().Add(-probeAge)
	return slices.DeleteFunc(probes, func(dir string) bool {
		info, err := os.Lstat(dir)
		return err != nil || info.ModTime().After(old)
	}), err
}
