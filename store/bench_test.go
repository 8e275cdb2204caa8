package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// One container's life in a store with so many layers: create, mount, unmount, delete.
func BenchmarkContainerCycle(b *testing.B) {
	testutil.Root(b)
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n, " layers"), func(b *testing.B) {
			ctx := context.Background()
			dir := b.TempDir()
			b.Cleanup(func() { testutil.UnmountBelow(dir) })
			s, err := store.Open(ctx, config.Config{GraphRoot: dir + "/root", RunRoot: dir + "/run", Driver: "overlay"})
			if err != nil {
				b.Fatal(err)
			}
			for range n {
				if _, err := s.CreateLayer(ctx, layers.CreateOptions{}); err != nil {
					b.Fatal(err)
				}
			}
			all, err := allLayers(s)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := s.CreateImage(ctx, store.ImageOptions{Names: []string{"img"},
				TopLayer: all[0].ID}); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				c, err := s.CreateContainer(ctx, store.ContainerOptions{Image: "img"})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Mount(ctx, c.ID, store.MountOptions{}); err != nil {
					b.Fatal(err)
				}
				if _, err := s.Unmount(ctx, c.ID, false); err != nil {
					b.Fatal(err)
				}
				if err := s.DeleteContainer(ctx, c.ID, store.DeleteOptions{Force: true}); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			if _, err := s.Shutdown(ctx, true); err != nil {
				b.Fatal(err)
			}
		})
	}
}
