package main

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
)

// peerTasks are those of containers/storage, through its library, with its defaults:
// nothing is synced.
func peerTasks() map[string]task {
	return map[string]task{
		"apply/storage":     peerApply,
		"image/storage":     peerImage,
		"diff/storage":      peerDiff("diff", func(input) string { return "layer" }),
		"change/storage":    peerChange,
		"commit/storage":    peerDiff("commit", func(in input) string { return in.Top }),
		"delete/storage":    peerDelete,
		"fill/storage":      peerFill,
		"layer/storage":     peerLayerCycle,
		"container/storage": peerContainerCycle(false),
		"volatile/storage":  peerContainerCycle(true),
		"chain/storage":     peerChain,
		"mount/storage":     peerMount,
		"open/storage":      peerOpen,
	}
}

func openPeer(in input) (storage.Store, error) {
	var options []string
	if len(in.MountOptions) > 0 {
		options = append(options, "overlay.mountopt="+strings.Join(in.MountOptions, ","))
	}
	if in.Chown {
		if err := os.Setenv("_CONTAINERS_OVERLAY_DISABLE_IDMAP", "yes"); err != nil {
			return nil, err
		}
	}
	return storage.GetStore(storage.StoreOptions{
		GraphRoot: filepath.Join(in.Dir, "root"), RunRoot: filepath.Join(in.Dir, "run"), GraphDriverName: "overlay",
		GraphDriverOptions: options})
}

func withPeer(in input, work func(s storage.Store) error) error {
	s, err := openPeer(in)
	if err != nil {
		return err
	}
	return work(s)
}

func peerApply(_ context.Context, in input, watch *stopwatch) (output, error) {
	err := withPeer(in, func(s storage.Store) error {
		if _, err := s.CreateLayer("first", "", nil, "", false, nil); err != nil {
			return err
		}
		file, err := os.Open(in.Archive)
		if err != nil {
			return err
		}
		defer file.Close()
		return watch.time("apply", func() error {
			_, _, err := s.PutLayer("layer", "", nil, "", false, nil, file)
			return err
		})
	})
	return output{Tree: filepath.Join(in.Dir, "root/overlay/layer/diff")}, err
}

func peerImage(_ context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withPeer(in, func(s storage.Store) error {
		if _, err := s.CreateLayer("first", "", nil, "", false, nil); err != nil {
			return err
		}
		return watch.time("image", func() error {
			parent := ""
			for i, path := range in.Archives {
				file, err := os.Open(path)
				if err != nil {
					return err
				}
				_, _, err = s.PutLayer(layerID(i), parent, nil, "", false, nil, file)
				file.Close()
				if err != nil {
					return err
				}
				parent = layerID(i)
			}
			return nil
		})
	})
}

func peerDiff(what string, layer func(input) string) task {
	return func(_ context.Context, in input, watch *stopwatch) (output, error) {
		plain := archive.Uncompressed
		return output{}, withPeer(in, func(s storage.Store) error {
			for range in.Times {
				if err := watch.time(what, func() error {
					r, err := s.Diff("", layer(in), &storage.DiffOptions{Compression: &plain})
					if err != nil {
						return err
					}
					defer r.Close()
					_, err = io.Copy(sha256.New(), r)
					return err
				}); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func peerChange(_ context.Context, in input, _ *stopwatch) (output, error) {
	return output{}, withPeer(in, func(s storage.Store) error {
		if _, err := s.CreateLayer(in.Top, "layer", nil, "", true, nil); err != nil {
			return err
		}
		path, err := s.Mount(in.Top, "")
		if err != nil {
			return err
		}
		if err := changeTen(path); err != nil {
			return err
		}
		_, err = s.Unmount(in.Top, false)
		return err
	})
}

func peerDelete(_ context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withPeer(in, func(s storage.Store) error {
		for _, l := range changedLayers() {
			if err := s.DeleteLayer(l.name); err != nil {
				return err
			}
		}
		return watch.time("delete", func() error { return s.DeleteLayer("layer") })
	})
}

func peerFill(_ context.Context, in input, _ *stopwatch) (output, error) {
	return output{}, withPeer(in, func(s storage.Store) error {
		all, err := s.Layers()
		if err != nil {
			return err
		}
		for i := len(all); i < in.Count; i++ {
			if _, err := s.CreateLayer(layerID(i), "", nil, "", false, nil); err != nil {
				return err
			}
		}
		if len(all) > 0 {
			return nil
		}
		_, err = s.CreateImage("", []string{"image"}, layerID(0), "", nil)
		return err
	})
}

func peerLayerCycle(_ context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withPeer(in, func(s storage.Store) error {
		return repeat(in, watch, func() error {
			l, err := s.CreateLayer("", layerID(0), nil, "", true, nil)
			if err != nil {
				return err
			}
			if _, err := s.Mount(l.ID, ""); err != nil {
				return err
			}
			if _, err := s.Unmount(l.ID, false); err != nil {
				return err
			}
			return s.DeleteLayer(l.ID)
		})
	})
}

func peerContainerCycle(volatile bool) task {
	return func(_ context.Context, in input, watch *stopwatch) (output, error) {
		return output{}, withPeer(in, func(s storage.Store) error {
			image, err := s.Image("image")
			if err != nil {
				return err
			}
			return repeat(in, watch, func() error {
				c, err := s.CreateContainer("", nil, image.ID, "", "", &storage.ContainerOptions{Volatile: volatile})
				if err != nil {
					return err
				}
				if _, err := s.Mount(c.ID, ""); err != nil {
					return err
				}
				if _, err := s.Unmount(c.ID, false); err != nil {
					return err
				}
				return s.DeleteContainer(c.ID)
			})
		})
	}
}

func peerChain(_ context.Context, in input, _ *stopwatch) (output, error) {
	return output{}, withPeer(in, func(s storage.Store) error {
		all, err := s.Layers()
		if err != nil {
			return err
		}
		for i := len(all); i <= in.Count; i++ {
			parent := ""
			if i > 0 {
				parent = layerID(i - 1)
			}
			if _, err := s.CreateLayer(layerID(i), parent, nil, "", true, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

func peerMount(_ context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withPeer(in, func(s storage.Store) error {
		for range in.Times {
			if err := watch.time("mount", func() error {
				_, err := s.Mount(layerID(in.Count), "")
				return err
			}); err != nil {
				return err
			}
			if err := watch.time("unmount", func() error {
				_, err := s.Unmount(layerID(in.Count), false)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

func peerOpen(_ context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, watch.time("open", func() error {
		return withPeer(in, func(s storage.Store) error {
			_, err := s.Layer(layerID(in.Count / 2))
			return err
		})
	})
}
