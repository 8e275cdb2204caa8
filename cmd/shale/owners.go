package main

import (
	"context"
	"errors"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) layerParentOwners() *cobra.Command {
	command := &cobra.Command{
		Use:   "layer-parent-owners [flags] LAYER...",
		Short: "List owners above the mount point whom the ID map lacks",
		Long: `Lists the users and groups who own directories above the place where LAYER is mounted
and whom the layer's ID map doesn't have. Who runs with that map can enter those
directories only as far as everybody can.`,
		Example: `  # whose directories are in the way?
  shale layer-parent-owners work`,
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeLayers,
	}
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		found, failed := findEach(ctx, args, s.Layer)
		for _, layer := range found {
			uids, gids, err := s.LayerParentOwners(ctx, layer.ID)
			if err != nil {
				return errors.Join(failed, err)
			}
			if *asJSON {
				if err := p.printJSON(parentOwners{layer.ID, uids, gids}); err != nil {
					return err
				}
				continue
			}
			p.printf("ID: %s\n", layer.ID)
			if len(uids) > 0 {
				p.printf("UIDs: %v\n", uids)
			}
			if len(gids) > 0 {
				p.printf("GIDs: %v\n", gids)
			}
		}
		return failed
	})
	return command
}

func (p *program) containerParentOwners() *cobra.Command {
	command := &cobra.Command{
		Use:   "container-parent-owners [flags] CONTAINER...",
		Short: "List owners above the mount point whom the ID map lacks",
		Long: `Lists the users and groups who own directories above the place where CONTAINER is
mounted and whom its ID map doesn't have. Who runs with that map can enter those
directories only as far as everybody can.`,
		Example: `  # whose directories are in the way?
  shale container-parent-owners web`,
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeContainers,
	}
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		found, failed := findEach(ctx, args, s.Container)
		for _, container := range found {
			uids, gids, err := s.ContainerParentOwners(ctx, container.ID)
			if err != nil {
				return errors.Join(failed, err)
			}
			if *asJSON {
				if err := p.printJSON(parentOwners{container.ID, uids, gids}); err != nil {
					return err
				}
				continue
			}
			p.printf("ID: %s\nUIDs: %v\nGIDs: %v\n", container.ID, uids, gids)
		}
		return failed
	})
	return command
}

// parentOwners is the answer of both commands as JSON.
type parentOwners struct {
	ID   string
	UIDs []int
	GIDs []int
}
