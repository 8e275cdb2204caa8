package main

import (
	"context"

	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"github.com/spf13/cobra"
)

func (p *program) storageLayers() *cobra.Command {
	command := &cobra.Command{
		Use:   "storage-layers",
		Short: "List the layers that the driver has",
		Long: `Lists the directories of layers that the storage driver keeps, whether a record knows
them or not. "shale check" tells which of them belong to nothing.`,
		Example: `  # how many layers are on the disk
  shale storage-layers | wc -l`,
		Args: arguments(0, 0),
	}
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		ids, err := fsck.DriverLayers(ctx, s)
		if err != nil {
			return err
		}
		return p.printNames(form, ids)
	})
	return command
}

func (p *program) createStorageLayer() *cobra.Command {
	command := &cobra.Command{
		Use:   "create-storage-layer [flags] [PARENT]",
		Short: "Make a layer that only the driver knows",
		Long: `Makes an empty layer in the storage driver, on top of PARENT when one is given, and no
record of it; prints its ID. That is what an interrupted command may leave. It serves to
try out "shale check" and "shale gc", which removes it.`,
		Example: `  # something to collect
  shale create-storage-layer && shale gc`,
		Args: arguments(0, 1),
	}
	wanted := p.layerFlags(command)
	command.Flags().Lookup("name").Hidden = true // nothing would remember it
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		options, err := wanted.options(args)
		if err != nil {
			return err
		}
		id, err := fsck.CreateDriverLayer(ctx, s, options)
		if err != nil {
			return err
		}
		return showOne(p, form, id, func(bool) { p.printf("%s\n", id) })
	})
	return command
}
