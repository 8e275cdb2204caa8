package main

import (
	"context"

	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) containers() *cobra.Command {
	command := &cobra.Command{
		Use:   "containers",
		Short: "List containers",
		Long: `Lists the containers of the store with their names and data items.

At a terminal this is a table; a pipe gets the text that containers-storage prints.`,
		Example: `  # which containers stand on which image
  shale containers --json | jq -r '.[] | [.id, .image] | @tsv'`,
		Args: arguments(0, 0),
	}
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		list, err := s.Containers(ctx)
		if err != nil {
			return err
		}
		switch {
		case *asJSON:
			return p.printJSON(emptyWhenNil(list))
		case p.interactive():
			return p.printContainerTable(ctx, s, list)
		}
		for _, container := range list {
			p.printf("%s\n", container.ID)
			for _, name := range container.Names {
				p.printf("\tname: %s\n", name)
			}
			for _, key := range container.BigDataNames {
				p.printf("\tdata: %s\n", key)
			}
		}
		return nil
	})
	return command
}

func (p *program) printContainerTable(ctx context.Context, s *store.Store, list []containers.Container) error {
	all, err := s.Images(ctx)
	if err != nil {
		return err
	}
	imageName := map[string]string{}
	for _, image := range all {
		imageName[image.ID] = nameOrID(image.Names, image.ID)
	}
	t := p.newTable("CONTAINER", "NAME", "IMAGE", "LAYER", "CREATED")
	for _, container := range list {
		name := imageName[container.ImageID]
		if name == "" {
			name = shortID(container.ImageID)
		}
		t.row(shortID(container.ID), firstOf(container.Names), name, shortID(container.LayerID), ago(container.Created))
	}
	t.flush()
	return nil
}
