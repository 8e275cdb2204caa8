package store_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/shalestore/shale/config/storageconf"
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

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
