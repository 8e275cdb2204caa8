package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// shaleTasks are ours, through the library, with the defaults: everything acknowledged is
// durable.
func shaleTasks() map[string]task {
	return map[string]task{
		"apply/shale":     shaleApply,
		"unsynced/shale":  shaleUnsynced,
		"writes/shale":    writes,
		"image/shale":     shaleImage,
		"inturn/shale":    shaleInTurn,
		"diff/shale":      shaleDiff,
		"change/shale":    shaleChange,
		"commit/shale":    shaleCommit,
		"delete/shale":    shaleDelete,
		"fill/shale":      shaleFill,
		"layer/shale":     shaleLayerCycle,
		"container/shale": shaleContainerCycle(false),
		"volatile/shale":  shaleContainerCycle(true),
		"chain/shale":     shaleChain,
		"mount/shale":     shaleMount,
		"open/shale":      shaleOpen,
	}
}

func openShale(ctx context.Context, in input) (*store.Store, error) {
	overlay := config.Overlay{DisableIDMap: in.Chown}
	if in.Unsynced {
		overlay.Sync = "none"
	}
	return store.Open(ctx, config.Config{GraphRoot: filepath.Join(in.Dir, "root"),
		RunRoot: filepath.Join(in.Dir, "run"), Driver: "overlay", Overlay: overlay})
}

// withShale opens the store, does the work and closes it.
func withShale(ctx context.Context, in input, work func(s *store.Store) error) error {
	s, err := openShale(ctx, in)
	if err != nil {
		return err
	}
	if err := work(s); err != nil {
		s.Close()
		return err
	}
	return s.Close()
}

func shaleApply(ctx context.Context, in input, watch *stopwatch) (output, error) {
	err := withShale(ctx, in, func(s *store.Store) error {
		if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: "first"}); err != nil { // the store's beginnings
			return err
		}
		file, err := os.Open(in.Archive)
		if err != nil {
			return err
		}
		defer file.Close()
		return watch.time("apply", func() error {
			_, err := s.ImportLayer(ctx, layers.CreateOptions{ID: "layer"}, file, nil)
			return err
		})
	})
	return output{Tree: filepath.Join(in.Dir, "root/overlay/layer/diff")}, err
}

// shaleUnsynced is shaleApply with durability turned off.
func shaleUnsynced(ctx context.Context, in input, watch *stopwatch) (output, error) {
	in.Unsynced = true
	return shaleApply(ctx, in, watch)
}

// shaleImage puts an image's layers into the store side by side.
func shaleImage(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: "first"}); err != nil {
			return err
		}
		var chain []store.LayerImport
		for i, path := range in.Archives {
			file, err := os.Open(path)
			if err != nil {
				return err
			}
			defer file.Close()
			chain = append(chain, store.LayerImport{Options: layers.CreateOptions{ID: layerID(i)}, Tar: file})
		}
		return watch.time("image", func() error {
			_, err := s.ImportLayers(ctx, "", chain)
			return err
		})
	})
}

// shaleInTurn puts them in one after another.
func shaleInTurn(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: "first"}); err != nil {
			return err
		}
		return watch.time("image", func() error {
			parent := ""
			for i, path := range in.Archives {
				file, err := os.Open(path)
				if err != nil {
					return err
				}
				_, err = s.ImportLayer(ctx, layers.CreateOptions{ID: layerID(i), Parent: parent}, file, nil)
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

func shaleDiff(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		plain := store.DiffOptions{Compression: new(uncompressed)}
		for range in.Times {
			if err := watch.time("diff", func() error {
				return s.Diff(ctx, sha256.New(), "layer", "",
					plain)
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// shaleChange stacks a layer on the large one and changes ten of its files.
func shaleChange(ctx context.Context, in input, _ *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: in.Top, Parent: "layer", Writable: true}); err != nil {
			return err
		}
		path, err := s.Mount(ctx, in.Top, store.MountOptions{Options: in.MountOptions})
		if err != nil {
			return err
		}
		if err := changeTen(path); err != nil {
			return err
		}
		_, err = s.Unmount(ctx, in.Top, false)
		return err
	})
}

func shaleCommit(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		plain := store.DiffOptions{Compression: new(uncompressed)}
		for range in.Times {
			if err := watch.time("commit", func() error {
				return s.Diff(ctx, sha256.New(), in.Top, "",
					plain)
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

func shaleDelete(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		for _, l := range changedLayers() {
			if err := s.DeleteLayer(ctx, l.name, store.DeleteOptions{}); err != nil {
				return err
			}
		}
		return watch.time("delete", func() error {
			remove := func() error { return s.DeleteLayer(ctx, "layer", store.DeleteOptions{}) }
			if err := watch.time("return", remove); err != nil {
				return err
			}
			return s.Wait(ctx)
		})
	})
}

// shaleFill brings a store to so many layers, with an image on the first.
func shaleFill(ctx context.Context, in input, _ *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		var all []layers.Layer
		err := s.View(ctx, func(tx *store.ReadTx) (err error) {
			all, err = tx.Layers()
			return err
		})
		if err != nil {
			return err
		}
		for i := len(all); i < in.Count; i++ {
			if _, err := s.CreateLayer(ctx, layers.CreateOptions{ID: layerID(i)}); err != nil {
				return err
			}
		}
		if len(all) > 0 {
			return nil
		}
		_, err = s.CreateImage(ctx, store.ImageOptions{Names: []string{"image"}, TopLayer: layerID(0)})
		return err
	})
}

func shaleLayerCycle(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		return repeat(in, watch, func() error {
			l, err := s.CreateLayer(ctx, layers.CreateOptions{Parent: layerID(0), Writable: true})
			if err != nil {
				return err
			}
			if _, err := s.Mount(ctx, l.ID, store.MountOptions{}); err != nil {
				return err
			}
			if _, err := s.Unmount(ctx, l.ID, false); err != nil {
				return err
			}
			return s.DeleteLayer(ctx, l.ID, store.DeleteOptions{})
		})
	})
}

func shaleContainerCycle(volatile bool) task {
	return func(ctx context.Context, in input, watch *stopwatch) (output, error) {
		return output{}, withShale(ctx, in, func(s *store.Store) error {
			return repeat(in, watch, func() error {
				c, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "image", Volatile: volatile})
				if err != nil {
					return err
				}
				if _, err := s.Mount(ctx, c.ID, store.MountOptions{}); err != nil {
					return err
				}
				if _, err := s.Unmount(ctx, c.ID, false); err != nil {
					return err
				}
				return s.DeleteContainer(ctx, c.ID, store.DeleteOptions{})
			})
		})
	}
}

// shaleChain stacks layers, each with nothing in it, and leaves the last one to be
// mounted.
func shaleChain(ctx context.Context, in input, _ *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		var all []layers.Layer
		err := s.View(ctx, func(tx *store.ReadTx) (err error) {
			all, err = tx.Layers()
			return err
		})
		if err != nil {
			return err
		}
		for i := len(all); i <= in.Count; i++ {
			opts := layers.CreateOptions{ID: layerID(i), Writable: true}
			if i > 0 {
				opts.Parent = layerID(i - 1)
			}
			if _, err := s.CreateLayer(ctx, opts); err != nil {
				return err
			}
		}
		return nil
	})
}

func shaleMount(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withShale(ctx, in, func(s *store.Store) error {
		for range in.Times {
			if err := watch.time("mount", func() error {
				_, err := s.Mount(ctx, layerID(in.Count), store.MountOptions{})
				return err
			}); err != nil {
				return err
			}
			if err := watch.time("unmount", func() error {
				_, err := s.Unmount(ctx, layerID(in.Count), false)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

func shaleOpen(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, watch.time("open", func() error {
		return withShale(ctx, in, func(s *store.Store) error {
			return s.View(ctx, func(tx *store.ReadTx) error {
				_, err := tx.Layer(layerID(in.Count / 2))
				return err
			})
		})
	})
}

// repeat times one turn of a cycle as often as the input says, after one that isn't
// timed.
func repeat(in input, watch *stopwatch, turn func() error) error {
	if err := turn(); err != nil {
		return err
	}
	timed := func() error { return watch.time("cycle", turn) }
	if in.Untimed {
		timed = turn
	}
	for range in.Times {
		if err := timed(); err != nil {
			return err
		}
	}
	return nil
}

func layerID(i int) string { return fmt.Sprintf("%064x", i+1) }
