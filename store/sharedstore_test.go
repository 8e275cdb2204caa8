package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
)

// box makes a container of an image, mounts it and returns where, with the container's
// ID.
func box(t *testing.T, s *store.Store, image string) (id, path string) {
	t.Helper()
	c, err := s.CreateContainer(context.Background(), store.ContainerOptions{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	path, err = s.Mount(context.Background(), c.ID, store.MountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c.ID, path
}

// Two graph roots have one image store: what the one imports the other runs, at the same
// time, and neither sees the other's containers. An image that the one deletes from
// beneath a container of the other is missed by the other's check, by name.
func TestImageStoreOfTwoRoots(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			ctx := context.Background()
			images := filepath.Join(filepath.Dir(roots(t).GraphRoot), "images")
			half := func() *store.Store {
				cfg := roots(t)
				cfg.Driver, cfg.ImageStore = driver, images
				return open(t, cfg)
			}
			one, two := half(), half()
			importLayer(t, one, id("base"), "", layerTar(t, "base"))
			if _, err := one.CreateImage(ctx, store.ImageOptions{ID: id("image"), Names: []string{"image"},
				TopLayer: id("base")}); err != nil {
				t.Fatal(err)
			}
			importLayer(t, two, id("more"), id("base"), layerTar(t, "more"))
			if _, err := two.CreateImage(ctx, store.ImageOptions{ID: id("bigger"), Names: []string{"bigger"},
				TopLayer: id("more")}); err != nil {
				t.Fatal(err)
			}
			first, at := box(t, one, "bigger")
			second, alsoAt := box(t, two, "bigger")
			for _, dir := range []string{at, alsoAt} {
				for _, file := range []string{"base", "more"} {
					if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
						t.Error(err)
					}
				}
			}
			if err := os.WriteFile(filepath.Join(at, "own"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(alsoAt, "own")); err == nil {
				t.Error("what one container writes the other sees")
			}
			for s, own := range map[*store.Store]string{one: first, two: second} {
				if all, err := allContainers(s); err != nil || len(all) != 1 || all[0].ID != own {
					t.Errorf("containers %v, %v", all, err)
				}
				if _, err := s.Unmount(ctx, own, false); err != nil {
					t.Fatal(err)
				}
				noGarbage(t, s)
			}
			if err := one.DeleteContainer(ctx, first, store.DeleteOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			if _, err := one.DeleteImage(ctx, "bigger", store.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			noGarbage(t, one)
			report, err := fsck.Check(ctx, two, fsck.CheckOptions{Quick: true})
			if err != nil || !slices.Contains(report.Objects(), fsck.Object{Kind: fsck.KindContainer, ID: second}) {
				t.Errorf("%v, %v", report.Findings, err)
			}
		})
	}
}

// An additional store belongs to somebody else, who changes it as they like. What then
// stands on nothing, or on something else, is named.
func TestStoreThatChangesUnderItsChildren(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		for what, change := range map[string]func(t *testing.T, s *store.Store){
			"image deleted": func(t *testing.T, s *store.Store) {
				if _, err := s.DeleteImage(t.Context(), "img", store.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			},
			"layer made anew with other content": func(t *testing.T, s *store.Store) {
				if _, err := s.DeleteImage(t.Context(), "img", store.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				importLayer(t, s, id("base"), "", layerTar(t, "another"))
			},
		} {
			t.Run(driver+"/"+what, func(t *testing.T) {
				theirs := roots(t)
				theirs.Driver = driver
				owner := open(t, theirs)
				importLayer(t, owner, id("base"), "", layerTar(t, "base"))
				if _, err := owner.CreateImage(t.Context(), store.ImageOptions{ID: id("img"), Names: []string{"img"},
					TopLayer: id("base")}); err != nil {
					t.Fatal(err)
				}
				cfg := roots(t)
				cfg.Driver, cfg.AdditionalImageStores = driver, []string{theirs.GraphRoot}
				s := open(t, cfg)
				importLayer(t, s, id("mine"), id("base"), layerTar(t, "mine"))
				if _, err := s.CreateImage(t.Context(),
					store.ImageOptions{ID: id("own"), TopLayer: id("mine")}); err != nil {
					t.Fatal(err)
				}
				c, err := s.CreateContainer(t.Context(), store.ContainerOptions{Image: "img"})
				if err != nil {
					t.Fatal(err)
				}
				noGarbage(t, s)
				change(t, owner)
				report, err := fsck.Check(t.Context(), open(t, cfg), fsck.CheckOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if says := fmt.Sprint(report.Findings); driver == "overlay" && what != "image deleted" &&
					!strings.Contains(says, "was made anew") {
					t.Errorf("found %s", says)
				}
				lost := []fsck.Object{{Kind: fsck.KindLayer, ID: id("mine")}, {Kind: fsck.KindContainer, ID: c.ID}}
				if driver == "overlay" { // elsewhere it is a copy
					lost = append(lost, fsck.Object{Kind: fsck.KindLayer, ID: c.LayerID})
				}
				for _, o := range lost {
					if !slices.Contains(report.Objects(), o) {
						t.Errorf("%s %s isn't named", o.Kind, o.ID)
					}
				}
			})
		}
	}
}
