package main

import (
	"context"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) layers() *cobra.Command {
	command := &cobra.Command{
		Use:   "layers [flags]",
		Short: "List layers",
		Long: `Lists the layers of the store, oldest first, with their names and with the images
and containers that stand on them.`,
		Example: `  # what builds on what
  shale layers --tree`,
		Args: arguments(0, 0),
	}
	if !p.peer {
		command.Example += `

  # the layers that no image or container stands on
  shale layers --json | jq -r '.[] | select(.images + .containers == []) | .id'`
	}
	tree := command.Flags().BoolP("tree", "t", false, "draw layers below their parents")
	quick := p.quietFlag(command, "quick")
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		list, err := look(ctx, s, (*store.ReadTx).Layers)
		if err != nil {
			return err
		}
		if p.peer && form.json() {
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
		case *tree && !form.json():
			mounted, err := look(ctx, s, (*store.ReadTx).MountedLayers)
			if err != nil {
				return err
			}
			p.printLayerTree(list, users, mounted)
			return nil
		case p.peer:
			p.printLayers(list, users)
			return nil
		}
		views := make([]layerView, 0, len(list))
		for _, layer := range list {
			views = append(views, viewLayer(layer, users))
		}
		return show(p, form, views, func(wide bool) { p.printLayerTable(views, users, wide) })
	})
	return command
}

func (p *program) printLayerTable(views []layerView, users layerUsers, wide bool) {
	t := p.newTable(wide, "LAYER", "NAME", "PARENT", "SIZE", "CREATED", "USED BY", "+DIGEST", "+COMPRESSION")
	t.numbers(3)
	for _, layer := range views {
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
		t.row(t.id(layer.ID), t.names(layer.Names), t.id(layer.Parent), size, ago(layer.Created), t.list(usedBy),
			string(layer.DiffID), layer.Compression)
	}
	t.flush()
}

// printLayers prints what containers-storage does.
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
			node.notes = append(node.notes, "name: "+p.said(name))
		}
		if at := mountedAt[layer.ID]; at != "" {
			node.notes = append(node.notes, "mount: "+p.said(at))
		}
		for _, image := range users.images[layer.ID] {
			node.notes = append(node.notes, "image: "+image.ID)
			for _, name := range image.Names {
				node.notes = append(node.notes, "image name: "+p.said(name))
			}
		}
		for _, container := range users.containers[layer.ID] {
			node.notes = append(node.notes, "container: "+container.ID)
			for _, name := range container.Names {
				node.notes = append(node.notes, "container name: "+p.said(name))
			}
		}
		nodes = append(nodes, node)
	}
	drawTree(p.out, nodes)
}
