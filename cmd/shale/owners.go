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
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		all, failed := findEach(ctx, s, args, func(tx *store.ReadTx, ref string) (owners parentOwners, err error) {
			layer, err := tx.Layer(ref)
			if err == nil {
				owners.ID = layer.ID
				owners.UIDs, owners.GIDs, err = tx.ParentOwners(layer.ID)
			}
			return owners, err
		})
		return errors.Join(p.printOwners(form, all, false), failed)
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
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		all, failed := findEach(ctx, s, args, func(tx *store.ReadTx, ref string) (owners parentOwners, err error) {
			container, err := tx.Container(ref)
			if err == nil {
				owners.ID = container.ID
				owners.UIDs, owners.GIDs, err = tx.ParentOwners(container.ID)
			}
			return owners, err
		})
		return errors.Join(p.printOwners(form, all, true), failed)
	})
	return command
}

// parentOwners is the answer of both commands as JSON.
type parentOwners struct {
	ID   string
	UIDs []int
	GIDs []int
}

// printOwners prints the answers. containers-storage prints a JSON value for each, and
// leaves out what a layer has none of.
func (p *program) printOwners(form *format, all []parentOwners, always bool) error {
	if p.peer && form.json() {
		form.word = "jsonl"
	}
	if !p.peer {
		for i := range all {
			all[i].UIDs, all[i].GIDs = emptyWhenNil(all[i].UIDs), emptyWhenNil(all[i].GIDs)
		}
	}
	return show(p, form, all, func(bool) {
		for _, owners := range all {
			p.printf("ID: %s\n", owners.ID)
			if len(owners.UIDs) > 0 || always {
				p.printf("UIDs: %v\n", owners.UIDs)
			}
			if len(owners.GIDs) > 0 || always {
				p.printf("GIDs: %v\n", owners.GIDs)
			}
		}
	})
}
