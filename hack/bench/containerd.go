package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// containerdTasks are those of containerd's overlay snapshotter and its usual applier,
// without the daemon. Layers come from its content store, into which they are put before
// the clock runs.
func containerdTasks() map[string]task {
	return map[string]task{
		"apply/containerd":  containerdApply,
		"image/containerd":  containerdImage,
		"diff/containerd":   containerdDiff("layer", "", "diff"),
		"change/containerd": containerdChange,
		"commit/containerd": containerdDiff("top", "layer", "commit"),
		"delete/containerd": containerdDelete,
		"fill/containerd":   containerdFill,
		"layer/containerd":  containerdCycle,
		"chain/containerd":  containerdChain,
		"mount/containerd":  containerdMount,
		"open/containerd":   containerdOpen,
	}
}

func withContainerd(ctx context.Context, in input,
	work func(ctx context.Context, s snapshots.Snapshotter) error) error {
	s, err := overlay.NewSnapshotter(filepath.Join(in.Dir, "snapshots"))
	if err != nil {
		return err
	}
	defer s.Close()
	return work(namespaces.WithNamespace(ctx, "bench"), s)
}

func containerdApply(ctx context.Context, in input, watch *stopwatch) (output, error) {
	err := withContainerd(ctx, in, func(ctx context.Context, s snapshots.Snapshotter) error {
		blobs, err := local.NewStore(filepath.Join(in.Dir, "content"))
		if err != nil {
			return err
		}
		desc, err := ingest(ctx, blobs, in.Archive)
		if err != nil {
			return err
		}
		applier := apply.NewFileSystemApplier(blobs)
		return watch.time("apply", func() error {
			mounts, err := s.Prepare(ctx, "extract", "")
			if err != nil {
				return err
			}
			if _, err := applier.Apply(ctx, desc, mounts); err != nil {
				return err
			}
			return s.Commit(ctx, "layer", "extract")
		})
	})
	return output{Tree: filepath.Join(in.Dir, "snapshots/snapshots/1/fs")}, err
}

func containerdImage(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withContainerd(ctx, in, func(ctx context.Context, s snapshots.Snapshotter) error {
		blobs, err := local.NewStore(filepath.Join(in.Dir, "content"))
		if err != nil {
			return err
		}
		var descs []ocispec.Descriptor
		for _, path := range in.Archives {
			desc, err := ingest(ctx, blobs, path)
			if err != nil {
				return err
			}
			descs = append(descs, desc)
		}
		applier := apply.NewFileSystemApplier(blobs)
		return watch.time("image", func() error {
			parent := ""
			for i, desc := range descs {
				mounts, err := s.Prepare(ctx, "extract", parent)
				if err != nil {
					return err
				}
				if _, err := applier.Apply(ctx, desc, mounts); err != nil {
					return err
				}
				if err := s.Commit(ctx, layerID(i), "extract"); err != nil {
					return err
				}
				parent = layerID(i)
			}
			return nil
		})
	})
}

func ingest(ctx context.Context, blobs content.Store, archive string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer}
	switch filepath.Ext(archive) {
	case ".gz":
		desc.MediaType = ocispec.MediaTypeImageLayerGzip
	case ".zst":
		desc.MediaType = ocispec.MediaTypeImageLayerZstd
	}
	file, err := os.Open(archive)
	if err != nil {
		return desc, err
	}
	defer file.Close()
	if desc.Digest, err = digest.FromReader(file); err != nil {
		return desc, err
	}
	if desc.Size, err = file.Seek(0, io.SeekCurrent); err != nil {
		return desc, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return desc, err
	}
	return desc, content.WriteBlob(ctx, blobs, filepath.Base(archive), file, desc)
}

// containerdDiff writes the difference of two snapshots as its walking differ does,
// without the content store behind it.
func containerdDiff(upper, lower, what string) task {
	return func(ctx context.Context, in input, watch *stopwatch) (output, error) {
		return output{}, withContainerd(ctx, in, func(ctx context.Context, s snapshots.Snapshotter) error {
			for i := range in.Times {
				var lowers, uppers []mount.Mount
				var err error
				if lower != "" {
					if lowers, err = s.View(ctx, fmt.Sprint("lower", i), lower); err != nil {
						return err
					}
				}
				if uppers, err = s.Mounts(ctx, upper); err != nil {
					if uppers, err = s.View(ctx, fmt.Sprint("upper", i), upper); err != nil {
						return err
					}
				}
				if err := watch.time(what, func() error {
					return mount.WithTempMount(ctx, lowers, func(lowerDir string) error {
						return mount.WithReadonlyTempMount(ctx, uppers, func(upperDir string) error {
							return archive.WriteDiff(ctx, sha256.New(), lowerDir, upperDir)
						})
					})
				}); err != nil {
					return err
				}
				_ = s.Remove(ctx, fmt.Sprint("lower", i))
				_ = s.Remove(ctx, fmt.Sprint("upper", i))
			}
			return nil
		})
	}
}

func containerdChange(ctx context.Context, in input, _ *stopwatch) (output, error) {
	return output{}, withContainerd(ctx, in, func(ctx context.Context, s snapshots.Snapshotter) error {
		mounts, err := s.Prepare(ctx, "top", "layer")
		if err != nil {
			return err
		}
		return mount.WithTempMount(ctx, mounts, changeTen)
	})
}

func containerdDelete(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, withContainerd(ctx, in, func(ctx context.Context, s snapshots.Snapshotter) error {
		if err := s.Remove(ctx, "top"); err != nil {
			return err
		}
		return watch.time("delete", func() error { return s.Remove(ctx, "layer") })
	})
}

func containerdFill(ctx context.Context, in input, _ *stopwatch) (output, error) {
	return output{}, withContainerd(ctx, in, func(ctx context.Context, s snapshots.Snapshotter) error {
		have, err := countSnapshots(ctx, s)
		if err != nil {
			return err
		}
		for i := have; i < in.Count; i++ {
			if err := commitEmpty(ctx, s, i, ""); err != nil {
				return err
			}
		}
		return nil
	})
}

func countSnapshots(ctx context.Context, s snapshots.Snapshotter) (n int, err error) {
	err = s.Walk(ctx, func(context.Context, snapshots.Info) error { n++; return nil })
	if errdefs.IsNotFound(err) { // its database has nothing in it yet
		err = nil
	}
	return n, err
}

func commitEmpty(ctx context.Context, s snapshots.Snapshotter, i int, parent string) error {
	if _, err := s.Prepare(ctx, "making", parent); err != nil {
		return err
	}
	return s.Commit(ctx, layerID(i), "making")
}

func containerdCycle(ctx context.Context, in input, watch *stopwatch) (output, error) {
	target := filepath.Join(in.Dir, "target")
	if err := os.MkdirAll(target, 0o755); err != nil {
		return output{}, err
	}
	return output{}, withContainerd(ctx, in, func(ctx context.Context, s snapshots.Snapshotter) error {
		return repeat(in, watch, func() error {
			mounts, err := s.Prepare(ctx, "container", layerID(0))
			if err != nil {
				return err
			}
			if err := mount.All(mounts, target); err != nil {
				return err
			}
			if err := mount.UnmountAll(target, 0); err != nil {
				return err
			}
			return s.Remove(ctx, "container")
		})
	})
}

func containerdChain(ctx context.Context, in input, _ *stopwatch) (output, error) {
	return output{}, withContainerd(ctx, in, func(ctx context.Context, s snapshots.Snapshotter) error {
		have, err := countSnapshots(ctx, s)
		if err != nil {
			return err
		}
		for i := have; i < in.Count; i++ {
			parent := ""
			if i > 0 {
				parent = layerID(i - 1)
			}
			if err := commitEmpty(ctx, s, i, parent); err != nil {
				return err
			}
		}
		return nil
	})
}

func containerdMount(ctx context.Context, in input, watch *stopwatch) (output, error) {
	target := filepath.Join(in.Dir, "target")
	if err := os.MkdirAll(target, 0o755); err != nil {
		return output{}, err
	}
	return output{}, withContainerd(ctx, in, func(ctx context.Context, s snapshots.Snapshotter) error {
		mounts, err := s.Prepare(ctx, "mounted", layerID(in.Count-1))
		if err != nil {
			return err
		}
		for range in.Times {
			if err := watch.time("mount", func() error { return mount.All(mounts, target) }); err != nil {
				return err
			}
			if err := watch.time("unmount", func() error { return mount.UnmountAll(target, 0) }); err != nil {
				return err
			}
		}
		return s.Remove(ctx, "mounted")
	})
}

func containerdOpen(ctx context.Context, in input, watch *stopwatch) (output, error) {
	return output{}, watch.time("open", func() error {
		return withContainerd(ctx, in, func(ctx context.Context, s snapshots.Snapshotter) error {
			_, err := s.Stat(ctx, layerID(in.Count/2))
			return err
		})
	})
}
