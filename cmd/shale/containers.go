package main

import (
	"context"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) containers() *cobra.Command {
	command := &cobra.Command{
		Use:   "containers [flags]",
		Short: "List containers",
		Long:  `Lists the containers of the store with their names, their images and their data items.`,
		Example: p.either(`  # which containers stand on which image
  shale containers --format '{{.ID}} {{.ImageID}}'`, `  # which containers stand on which image
  shale containers --json | jq -r '.[] | [.id, .image] | @tsv'`),
		Args: arguments(0, 0),
	}
	quiet := new(bool)
	if !p.peer {
		quiet = p.quietFlag(command, "quiet")
	}
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		list, err := look(ctx, s, (*store.ReadTx).Containers)
		switch {
		case err != nil:
			return err
		case p.peer && form.json():
			return p.printJSON(emptyWhenNil(list))
		case p.peer:
			p.printPeerContainers(list)
			return nil
		case *quiet:
			for _, container := range list {
				p.printf("%s\n", container.ID)
			}
			return nil
		}
		all, err := look(ctx, s, (*store.ReadTx).Images)
		if err != nil {
			return err
		}
		imageNames := map[string][]string{}
		for _, image := range all {
			imageNames[image.ID] = image.Names
		}
		views := make([]containerView, 0, len(list))
		for _, container := range list {
			views = append(views, viewContainer(container, imageNames[container.ImageID]))
		}
		return show(p, form, views, func(wide bool) { p.printContainerTable(views, wide) })
	})
	return command
}

func (p *program) printContainerTable(views []containerView, wide bool) {
	t := p.newTable(wide, "CONTAINER", "NAME", "IMAGE", "LAYER", "CREATED", "+DATA")
	for _, container := range views {
		t.row(t.id(container.ID), t.names(container.Names), container.imageOf(), t.id(container.LayerID),
			ago(container.Created), t.names(container.BigDataNames))
	}
	t.flush()
}

// printPeerContainers prints what containers-storage does.
func (p *program) printPeerContainers(list []containers.Container) {
	for _, container := range list {
		p.printf("%s\n", container.ID)
		for _, name := range container.Names {
			p.printf("\tname: %s\n", name)
		}
		for _, key := range container.BigDataNames {
			p.printf("\tdata: %s\n", key)
		}
	}
}
