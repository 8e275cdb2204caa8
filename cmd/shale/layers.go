package main

import (
	"context"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) layers() *cobra.Command {
	command := &cobra.Command{
		Use:   "layers",
		Short: "List layers",
		Long: `Lists the layers of the store, oldest first, with their names and with the images
and containers that stand on them.

At a terminal this is a table; a pipe gets the text that containers-storage prints.`,
		Example: `  # what builds on what
  shale layers --tree`,
		Args: arguments(0, 0),
	}
	tree := command.Flags().BoolP("tree", "t", false, "draw layers below their parents")
	quick := command.Flags().BoolP("quick", "q", false, "print IDs only")
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		list, err := s.Layers(ctx)
		if err != nil {
			return err
		}
		if *asJSON {
			return p.printJSON(nullWhenEmpty(list))
		}
		if *quick && !*tree {
			for _, layer := range list {
				p.printf("%s\n", layer.ID)
			}
			return nil
		}
		users, err := findLayerUsers(ctx, s)
		if err != nil {
			return err
		}
		switch {
		case *tree:
			mounted, err := s.MountedLayers(ctx)
			if err != nil {
				return err
			}
			p.printLayerTree(list, users, mounted)
		case p.interactive():
			p.printLayerTable(list, users)
		default:
			p.printLayers(list, users)
		}
		return nil
	})
	return command
}

// layerUsers are the images and containers that stand on each layer, by its ID.
type layerUsers struct {
	images     map[string][]images.Image
	containers map[string][]containers.Container
}

func findLayerUsers(ctx context.Context, s *store.Store) (layerUsers, error) {
	users := layerUsers{map[string][]images.Image{}, map[string][]containers.Container{}}
	allImages, err := s.Images(ctx)
	if err != nil {
		return users, err
	}
	for _, image := range allImages {
		for _, layer := range append([]string{image.TopLayer}, image.MappedLayers...) {
			users.images[layer] = append(users.images[layer], image)
		}
	}
	allContainers, err := s.Containers(ctx)
	if err != nil {
		return users, err
	}
	for _, container := range allContainers {
		users.containers[container.LayerID] = append(users.containers[container.LayerID], container)
	}
	return users, nil
}

func (p *program) printLayers(list []layers.Layer, users layerUsers) {
	for _, layer := range list {
		p.printf("%s\n", layer.ID)
		for _, name := range layer.Names {
			p.printf("\tname: %s\n", name)
		}
		for _, image := range users.images[layer.ID] {
			p.printf("\timage: %s\n", image.ID)
			for _, name := range image.Names {
				p.printf("\t\tname: %s\n", name)
			}
		}
		for _, container := range users.containers[layer.ID] {
			p.printf("\tcontainer: %s\n", container.ID)
			for _, name := range container.Names {
				p.printf("\t\tname: %s\n", name)
			}
		}
	}
}

func (p *program) printLayerTree(list []layers.Layer, users layerUsers, mounted []catalog.Mountpoint) {
	mountedAt := map[string]string{}
	for _, m := range mounted {
		mountedAt[m.ID] = m.Path
	}
	nodes := make([]treeNode, 0, len(list))
	for _, layer := range list {
		node := treeNode{parent: layer.Parent, id: layer.ID}
		if node.parent == "" {
			node.parent = "(base)"
		}
		for _, name := range layer.Names {
			node.notes = append(node.notes, "name: "+name)
		}
		if at := mountedAt[layer.ID]; at != "" {
			node.notes = append(node.notes, "mount: "+at)
		}
		for _, image := range users.images[layer.ID] {
			node.notes = append(node.notes, "image: "+image.ID)
			for _, name := range image.Names {
				node.notes = append(node.notes, "image name: "+name)
			}
		}
		for _, container := range users.containers[layer.ID] {
			node.notes = append(node.notes, "container: "+container.ID)
			for _, name := range container.Names {
				node.notes = append(node.notes, "container name: "+name)
			}
		}
		nodes = append(nodes, node)
	}
	drawTree(p.out, nodes)
}

func (p *program) printLayerTable(list []layers.Layer, users layerUsers) {
	t := p.newTable("LAYER", "NAME", "PARENT", "SIZE", "CREATED", "USED BY")
	t.numbers(3)
	for _, layer := range list {
		size := ""
		if layer.DiffID != "" {
			size = bytesText(layer.DiffSize)
		}
		var usedBy []string
		for _, image := range users.images[layer.ID] {
			usedBy = append(usedBy, "image "+nameOrID(image.Names, image.ID))
		}
		for _, container := range users.containers[layer.ID] {
			usedBy = append(usedBy, "container "+nameOrID(container.Names, container.ID))
		}
		t.row(shortID(layer.ID), firstOf(layer.Names), shortID(layer.Parent), size, ago(layer.Created), firstOf(usedBy))
	}
	t.flush()
}

// nullWhenEmpty makes an empty list print as null, as the Go programs that read
// containers-storage's output expect.
func nullWhenEmpty[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}
