package store_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/config/storageconf"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// Import a layer tar, mount it and look inside.
func Example() {
	ctx := context.Background()
	settings, err := storageconf.Load(storageconf.Overrides{}) // storage.conf, as Podman reads it
	check(err)
	s, err := store.Open(ctx, settings.Config)
	check(err)
	defer s.Close()
	tar, err := os.Open("layer.tar.gz")
	check(err)
	layer, err := s.ImportLayer(ctx, layers.CreateOptions{Names: []string{"base"}}, tar, nil)
	check(err)
	path, err := s.Mount(ctx, layer.ID, store.MountOptions{ReadOnly: true})
	check(err)
	defer s.Unmount(ctx, layer.ID, false)
	files, err := os.ReadDir(path)
	check(err)
	fmt.Println(layer.DiffID, len(files))
}

// A store of a program's own, which needs no storage.conf.
func Example_importAndMount() {
	ctx := context.Background()
	s, remove := ownStore(ctx)
	defer remove()
	layer, err := s.ImportLayer(ctx, layers.CreateOptions{Names: []string{"base"}}, tarOf("hello", "world"), nil)
	check(err)
	path, err := s.Mount(ctx, layer.ID, store.MountOptions{})
	check(err)
	defer s.Unmount(ctx, layer.ID, false)
	text, err := os.ReadFile(filepath.Join(path, "hello"))
	check(err)
	fmt.Println(string(text))
	// Output: world
}

// List images and containers, with what they take. Sizes are asked for when the
// transaction is over, since measuring takes its time.
func Example_list() {
	ctx := context.Background()
	s, remove := ownStore(ctx)
	defer remove()
	base, err := s.ImportLayer(ctx, layers.CreateOptions{}, tarOf("hello", "world"), nil)
	check(err)
	image, err := s.CreateImage(ctx, store.ImageOptions{Names: []string{"example.com/hello:1"}, TopLayer: base.ID})
	check(err)
	_, err = s.CreateContainer(ctx, store.ContainerOptions{Names: []string{"web"}, Image: image.ID})
	check(err)

	type line struct {
		name string
		kind errdefs.Kind
		id   string
	}
	var lines []line
	err = s.View(ctx, func(tx *store.ReadTx) error {
		images, err := tx.Images()
		if err != nil {
			return err
		}
		for _, i := range images {
			lines = append(lines, line{i.Names[0], errdefs.Image, i.ID})
		}
		containers, err := tx.Containers()
		for _, c := range containers {
			lines = append(lines, line{c.Names[0], errdefs.Container, c.ID})
		}
		return err
	})
	check(err)
	for _, l := range lines {
		size, err := s.Size(ctx, l.kind, l.id)
		check(err)
		fmt.Println(l.name, size > 0 || l.name == "web")
	}
	// Output:
	// example.com/hello:1 true
	// web true
}

// Build an image of two layers: a base, and what a step changes in a container on it. Who
// dies on the way leaves a container, which is listed and can be deleted.
func Example_build() {
	ctx := context.Background()
	s, remove := ownStore(ctx)
	defer remove()
	base, err := s.ImportLayer(ctx, layers.CreateOptions{Names: []string{"base"}}, tarOf("hello", "world"), nil)
	check(err)
	from, err := s.CreateImage(ctx, store.ImageOptions{Names: []string{"example.com/base:1"}, TopLayer: base.ID})
	check(err)

	container, err := s.CreateContainer(ctx, store.ContainerOptions{Names: []string{"step"}, Image: from.ID})
	check(err)
	defer func() { check(s.DeleteContainer(ctx, container.ID, store.DeleteOptions{})) }()
	path, err := s.Mount(ctx, container.ID, store.MountOptions{})
	check(err)
	check(os.WriteFile(filepath.Join(path, "greeting"), []byte("good day"), 0o644)) // the step
	_, err = s.Unmount(ctx, container.ID, false)
	check(err)

	layer, err := s.Commit(ctx, container.ID, layers.CreateOptions{})
	check(err)
	built, err := s.CreateImage(ctx, store.ImageOptions{Names: []string{"example.com/built:1"}, TopLayer: layer.ID})
	check(err)
	fmt.Println(built.Names, layer.Parent == base.ID)

	changes, err := s.Changes(ctx, layer.ID, "")
	check(err)
	for _, change := range changes {
		fmt.Println(change.Path, change.Kind == diff.Added)
	}
	// Output:
	// [example.com/built:1] true
	// /greeting true
}

// ownStore opens a store in a directory of its own, with the driver that needs nothing of
// the kernel.
func ownStore(ctx context.Context) (s *store.Store, remove func()) {
	dir, err := os.MkdirTemp("", "store-")
	check(err)
	s, err = store.Open(ctx, config.Config{GraphRoot: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"),
		Driver: "vfs"})
	check(err)
	return s, func() {
		check(s.Close())
		check(os.RemoveAll(dir))
	}
}

// tarOf makes a tar of one file.
func tarOf(name, text string) io.Reader {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	check(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}))
	_, err := io.WriteString(w, text)
	check(err)
	check(w.Close())
	return &buf
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
