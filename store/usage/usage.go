// Package usage tells where the space of a store has gone. It only reads.
package usage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/diskusage"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/internal/roots"
	"golang.org/x/sys/unix"
)

// Space is an amount of a file system.
type Space struct {
	Bytes  int64 `json:"bytes"` // allocated, as df and du count them: whole blocks, hard links once
	Inodes int64 `json:"inodes"`
}

func (s *Space) add(o Space) { s.Bytes += o.Bytes; s.Inodes += o.Inodes }

// Kind is a kind of object.
type Kind string

// The kinds of object.
const (
	KindLayer     Kind = "layer"
	KindImage     Kind = "image"
	KindContainer Kind = "container"
)

// Usage is what one container, image or layer takes on disk.
type Usage struct {
	Kind  Kind     `json:"kind"`
	ID    string   `json:"id"`
	Names []string `json:"names,omitempty"`
	// ReadOnly objects are in another store. What they take counts in no sum and is never
	// freed.
	ReadOnly bool `json:"read-only,omitempty"`
	// Total is Unique and Shared together: for a layer its own files, for an image its
	// layers and data items, for a container its layer, its data items and directories in
	// the graph root, and its image's layers.
	Total Space `json:"total"`
	// Unique is what no other image has, and Shared what another one has as well. A
	// container shares all but its own files. A layer is shared as a whole, or not.
	Unique Space `json:"unique"`
	Shared Space `json:"shared"`
	// Freed is what deleting it would give back now: nothing for an image that containers
	// stand on, or a layer that is needed.
	Freed Space `json:"freed"`
	// Users is the number of images and containers that need it, directly or through
	// layers above. The image of a container has it as user.
	Users int `json:"users"`
	// Limit is what its quota allows a container's layer to take; 0 is no limit.
	Limit Space `json:"limit,omitzero"`
	// Basis is what a layer's numbers rest on, or those of a container's layer.
	Basis Basis `json:"basis,omitempty"`
}

// Report tells where the space of a store has gone. Each list begins with what takes
// most.
type Report struct {
	Containers []Usage `json:"containers"`
	Images     []Usage `json:"images"`
	Layers     []Usage `json:"layers"`
	// Total is everything in the store's own roots that belongs to any of these, each
	// layer once.
	Total Space `json:"total"`
	// Unused is the part of it in layers that no image and no container needs.
	Unused Space `json:"unused"`
	// FileSystem is that of the graph root.
	FileSystem FileSystem `json:"file-system"`
}

// FileSystem says how full a file system is. One that has no fixed number of inodes, as
// btrfs, has 0 of them.
type FileSystem struct {
	Path  string `json:"path"`
	Size  Space  `json:"size"`
	Free  Space  `json:"free"` // what others than root may take
	InUse Space  `json:"in-use"`
}

// Options says how exactly Of looks.
type Options struct {
	// Fresh walks every layer, where otherwise layers that don't change are walked once
	// after each start of the host.
	Fresh bool
}

// Of measures what containers, images and layers take on disk. Sizes of layers come
// from quotas where the driver has set them, from earlier walks where nothing has changed
// since (see footprints), and else from walks, several at a time. Records
// are read under all locks, shared; nothing is locked while files are counted, so what is
// being written to is counted as it goes by.
//
// Blocks that files share through reflinks count for each of them, as in du. With an
// error about layers that couldn't be measured comes a report without them.
func Of(ctx context.Context, s *store.Store, opts Options) (Report, error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return Report{}, err
	}
	c := relations{restless: map[string]bool{}}
	err = r.ViewAll(ctx, func(l *layers.ReadTx, i *images.ReadTx, k *containers.ReadTx) (err error) {
		if c.layers, err = l.All(); err != nil {
			return err
		}
		if c.images, err = i.All(); err != nil {
			return err
		}
		if c.containers, err = k.All(); err != nil {
			return err
		}
		mounted, err := l.MountedLayers(ctx)
		for _, m := range mounted {
			c.restless[m.ID] = true
		}
		return err
	})
	if err != nil {
		return Report{}, err
	}
	c.relate()
	var report Report
	if report.FileSystem, err = statFileSystem(s.Config().GraphRoot); err != nil {
		return Report{}, err
	}
	found, missing := footprints(ctx, r, c.layers, c.restless, opts.Fresh)
	if found == nil && missing != nil {
		return Report{}, missing
	}
	for n, f := range found {
		c.sizes[c.layers[n].ID] = f
	}
	if err := c.report(ctx, r, &report); err != nil {
		return Report{}, err
	}
	return report, missing
}

func statFileSystem(path string) (FileSystem, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return FileSystem{}, fmt.Errorf("statfs %s: %w", path, err)
	}
	block := int64(st.Frsize)
	return FileSystem{
		Path:  path,
		Size:  Space{int64(st.Blocks) * block, int64(st.Files)},
		Free:  Space{int64(st.Bavail) * block, int64(st.Ffree)},
		InUse: Space{int64(st.Blocks-st.Bfree) * block, int64(st.Files - st.Ffree)},
	}, nil
}

// report puts the numbers together.
func (c *relations) report(ctx context.Context, in *roots.Roots, r *Report) error {
	r.Containers, r.Images, r.Layers = []Usage{}, []Usage{}, []Usage{}
	for _, layer := range c.layers {
		f := c.sizes[layer.ID]
		size := Space{f.Bytes, f.Inodes}
		u := Usage{
			Kind: KindLayer, ID: layer.ID, Names: layer.Names, ReadOnly: layer.ReadOnly,
			Total: size, Unique: size, Users: c.imagesOn[layer.ID] + c.containersOn[layer.ID], Limit: limitOf(f),
			Basis: f.Basis,
		}
		if c.imagesOn[layer.ID] > 1 {
			u.Unique, u.Shared = Space{}, size
		}
		if !layer.ReadOnly {
			r.Total.add(size)
			if u.Users == 0 {
				r.Unused.add(size)
			}
			if !c.needed(layer.ID) {
				u.Freed = size
			}
		}
		r.Layers = append(r.Layers, u)
	}
	for _, image := range c.images {
		own, err := spaceOf(ctx, in.Images.Home(image))
		if err != nil {
			return fmt.Errorf("image %s: %w", image.ID, err)
		}
		u := Usage{
			Kind: KindImage, ID: image.ID, Names: image.Names, ReadOnly: image.ReadOnly,
			Total: own, Unique: own, Users: len(c.madeFrom[image.ID]),
		}
		for _, id := range c.chains(image) {
			size := c.space(id)
			u.Total.add(size)
			if c.imagesOn[id] > 1 {
				u.Shared.add(size)
			} else {
				u.Unique.add(size)
			}
		}
		if !image.ReadOnly {
			r.Total.add(own)
			if u.Users == 0 {
				u.Freed = own
				for _, id := range c.unneeded(image) {
					u.Freed.add(c.space(id))
				}
			}
		}
		r.Images = append(r.Images, u)
	}
	for _, container := range c.containers {
		own, err := spaceOf(ctx, in.Containers.Home(container))
		if err != nil {
			return fmt.Errorf("container %s: %w", container.ID, err)
		}
		r.Total.add(own)
		u := Usage{Kind: KindContainer, ID: container.ID, Names: container.Names,
			Limit: limitOf(c.sizes[container.LayerID]), Basis: c.sizes[container.LayerID].Basis}
		u.Unique = own
		for n, id := range c.chain(container.LayerID) {
			if n == 0 {
				u.Unique.add(c.space(id))
			} else {
				u.Shared.add(c.space(id))
			}
		}
		u.Total, u.Freed = u.Unique, u.Unique
		u.Total.add(u.Shared)
		r.Containers = append(r.Containers, u)
	}
	for _, list := range [][]Usage{r.Containers, r.Images, r.Layers} {
		slices.SortStableFunc(list, func(a, b Usage) int {
			return cmp.Or(cmp.Compare(b.Total.Bytes, a.Total.Bytes), cmp.Compare(a.ID, b.ID))
		})
	}
	return nil
}

func limitOf(f footprint) Space {
	return Space{int64(f.Limits.Bytes), int64(f.Limits.Inodes)}
}

// spaceOf measures a directory that may be missing.
func spaceOf(ctx context.Context, dir string) (Space, error) {
	tree, err := diskusage.Count(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return Space{tree.Allocated, tree.Inodes}, err
}
