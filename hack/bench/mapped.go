package main

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/tests/corpus"
	"go.podman.io/storage"
	theirids "go.podman.io/storage/pkg/idtools"
	"go.podman.io/storage/types"
)

// mappedBench starts containers in user namespaces on an image of many small files, with
// owners translated while mounting and on disk. Then it mounts with a mapping on more and
// more layers.
func mappedBench(ctx context.Context, s *session) error {
	files, depths := 60000, []int{1, 100, 499}
	if s.quick {
		files, depths = 6000, []int{1, 50}
	}
	l := testLayer{name: fmt.Sprintf("small-%d", files), about: fmt.Sprintf("%d small files", files),
		tar: func(path string) error { return corpus.WriteSmallFiles(path, files) }}
	path, err := l.file(ctx, ".tar")
	if err != nil {
		return err
	}
	for round := range s.rounds {
		for _, c := range shuffled([]string{"shale", "storage"}) {
			if err := s.fresh(2*l.mib(), func(dir string) error {
				return mappedRound(ctx, s, c, input{Dir: dir, Archive: path}, fmt.Sprintf(" on %d files", files))
			}); err != nil {
				return err
			}
		}
		progress("mapped: round %d of %d", round+1, s.rounds)
	}
	return s.grow(ctx, []string{"shale", "storage"}, depths, 512, "chain", func(c, dir string, depth int) error {
		_, err := s.do(ctx, "mapped", c, input{Dir: dir, Count: depth, Times: 10},
			map[string]string{"mount": fmt.Sprintf("mount with an ID map on %d lowers", depth)})
		return err
	})
}

// mappedRound lets one contestant do everything on one image. Each container is started
// by a process of its own, as commands do it.
func mappedRound(ctx context.Context, s *session, c string, in input, on string) error {
	if _, err := perform(ctx, "mappedimage/"+c, in); err != nil {
		return err
	}
	start := func(in input, rows map[string]string) error {
		if _, err := s.do(ctx, "start", c, in, rows); err != nil {
			return err
		}
		_, err := perform(ctx, "stop/"+c, in)
		return err
	}
	if err := start(in, nil); err != nil { // the store's beginnings, and questions to the kernel
		return err
	}
	for in.Count = 1; in.Count <= 3; in.Count++ {
		if err := start(in, map[string]string{"start": "start in a user namespace" + on}); err != nil {
			return err
		}
	}
	in.Chown = true
	return start(in, map[string]string{"start": "the same by chown" + on})
}

func mappedTasks() map[string]task {
	return map[string]task{
		"mappedimage/shale":   shaleMappedImage,
		"start/shale":         shaleStart,
		"stop/shale":          shaleStop,
		"mapped/shale":        shaleMapped,
		"mappedimage/storage": peerMappedImage,
		"start/storage":       peerStart,
		"stop/storage":        peerStop,
		"mapped/storage":      peerMapped,
	}
}

// The nth container has a range of host IDs that no other has.
const (
	firstHostID = 1000000
	mappedIDs   = 65536
)

func boxName(in input) string { return fmt.Sprint("box", in.Count) }

func shaleMappedImage(ctx context.Context, in input, watch *stopwatch) (output, error) {
	out, err := shaleApply(ctx, in, watch)
	if err != nil {
		return out, err
	}
	return out, withShale(ctx, in, func(s *store.Store) error {
		_, err := s.CreateImage(ctx, store.ImageOptions{Names: []string{"image"}, TopLayer: "layer"})
		return err
	})
}

func shaleMap(n int) idtools.Mapping {
	m := []idtools.Map{{HostID: firstHostID + n*mappedIDs, Size: mappedIDs}}
	return idtools.Mapping{UIDs: m, GIDs: m}
}

func shaleStart(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, watch.time("start", func() error {
		return withShale(ctx, in, func(s *store.Store) error {
			c, err := s.CreateContainer(ctx, store.ContainerOptions{Names: []string{boxName(in)}, Image: "image",
				IDMap: shaleMap(in.Count)})
			if err != nil {
				return err
			}
			_, err = s.Mount(ctx, c.ID, store.MountOptions{})
			return err
		})
	})
}

// shaleStop also deletes the copy with other owners, where there is one.
func shaleStop(ctx context.Context, in input, _ *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		var c containers.Container
		var l layers.Layer
		err := s.View(ctx, func(tx *store.ReadTx) (err error) {
			if c, err = tx.Container(boxName(in)); err != nil {
				return err
			}
			l, err = tx.Layer(c.LayerID)
			return err
		})
		if err != nil {
			return err
		}
		if _, err := s.Unmount(ctx, c.ID, true); err != nil {
			return err
		}
		if err := s.DeleteContainer(ctx, c.ID, store.DeleteOptions{}); err != nil || !in.Chown {
			return err
		}
		return s.DeleteLayer(ctx, l.Parent, store.DeleteOptions{})
	})
}

// shaleMapped mounts a container with a mapping on so many layers of a chain.
func shaleMapped(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		image, err := s.CreateImage(ctx, store.ImageOptions{TopLayer: layerID(in.Count - 1)})
		if err != nil {
			return err
		}
		c, err := s.CreateContainer(ctx, store.ContainerOptions{Image: image.ID, IDMap: shaleMap(0)})
		if err != nil {
			return err
		}
		for range in.Times {
			if err := watch.time("mount", func() error {
				_, err := s.Mount(ctx, c.ID, store.MountOptions{})
				return err
			}); err != nil {
				return err
			}
			if _, err := s.Unmount(ctx, c.ID, false); err != nil {
				return err
			}
		}
		return s.DeleteContainer(ctx, c.ID, store.DeleteOptions{})
	})
}

func peerMappedImage(ctx context.Context, in input, watch *stopwatch) (output, error) {
	out, err := peerApply(ctx, in, watch)
	if err != nil {
		return out, err
	}
	return out, withPeer(in, func(s storage.Store) error {
		_, err := s.CreateImage("", []string{"image"}, "layer", "", nil)
		return err
	})
}

func peerMap(n int) *storage.ContainerOptions {
	m := []theirids.IDMap{{HostID: firstHostID + n*mappedIDs, Size: mappedIDs}}
	return &storage.ContainerOptions{IDMappingOptions: types.IDMappingOptions{UIDMap: m, GIDMap: m}}
}

func peerStart(_ context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, watch.time("start", func() error {
		return withPeer(in, func(s storage.Store) error {
			image, err := s.Image("image")
			if err != nil {
				return err
			}
			c, err := s.CreateContainer("", []string{boxName(in)}, image.ID, "", "", peerMap(in.Count))
			if err != nil {
				return err
			}
			_, err = s.Mount(c.ID, "")
			return err
		})
	})
}

func peerStop(_ context.Context, in input, _ *stopwatch) (output, error) {
	return output{}, withPeer(in, func(s storage.Store) error {
		c, err := s.Container(boxName(in))
		if err != nil {
			return err
		}
		l, err := s.Layer(c.LayerID)
		if err != nil {
			return err
		}
		if _, err := s.Unmount(c.ID, true); err != nil {
			return err
		}
		if err := s.DeleteContainer(c.ID); err != nil || !in.Chown {
			return err
		}
		return s.DeleteLayer(l.Parent)
	})
}

func peerMapped(_ context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withPeer(in, func(s storage.Store) error {
		image, err := s.CreateImage("", nil, layerID(in.Count-1), "", nil)
		if err != nil {
			return err
		}
		c, err := s.CreateContainer("", nil, image.ID, "", "", peerMap(0))
		if err != nil {
			return err
		}
		for range in.Times {
			if err := watch.time("mount", func() error {
				_, err := s.Mount(c.ID, "")
				return err
			}); err != nil {
				return err
			}
			if _, err := s.Unmount(c.ID, false); err != nil {
				return err
			}
		}
		return s.DeleteContainer(c.ID)
	})
}
