package main

import (
	"context"
	"errors"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) deleteLayer() *cobra.Command {
	return p.deletion(&cobra.Command{
		Use:     "delete-layer [flags] LAYER...",
		Aliases: []string{"deletelayer"},
		Short:   "Delete layers",
		Long: `Deletes layers. It refuses to delete one that another layer, an image or a container
stands on, or that is mounted.`,
		Example: `  # by name
  shale delete-layer work`,
		ValidArgsFunction: p.completeLayers,
	}, (*store.Store).DeleteLayer)
}

func (p *program) deleteContainer() *cobra.Command {
	return p.deletion(&cobra.Command{
		Use:     "delete-container [flags] CONTAINER...",
		Aliases: []string{"deletecontainer"},
		Short:   "Delete containers",
		Long:    `Deletes containers: their records, their data and their layers with all that was written there.`,
		Example: `  # by name
  shale delete-container web`,
		ValidArgsFunction: p.completeContainers,
	}, (*store.Store).DeleteContainer)
}

func (p *program) delete() *cobra.Command {
	return p.deletion(&cobra.Command{
		Use:   "delete [flags] ID...",
		Short: "Delete anything, without asking whether it is needed",
		Long: `Deletes layers, images and containers, even those that others stand on, which break
then. The commands delete-layer, delete-image and delete-container are the safe ones.`,
		Example: `  # a layer whose parent is gone
  shale delete 5528ad66`,
		ValidArgsFunction: p.completeAny,
	}, (*store.Store).Delete)
}

// deletion completes one of the three commands that say nothing about what went well.
func (p *program) deletion(command *cobra.Command,
	remove func(*store.Store, context.Context, string) error) *cobra.Command {
	command.Args = arguments(1, -1)
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		outcomes := map[string]string{}
		var failed error
		for _, ref := range args {
			err := remove(s, ctx, ref)
			outcomes[ref] = errorText(err)
			failed = errors.Join(failed, err)
		}
		if *asJSON {
			return errors.Join(p.printJSON(outcomes), failed)
		}
		return failed
	})
	return command
}

func (p *program) deleteImage() *cobra.Command {
	command := &cobra.Command{
		Use:     "delete-image [flags] IMAGE...",
		Aliases: []string{"deleteimage"},
		Short:   "Delete images",
		Long: `Deletes images, and those of their layers that nothing else stands on; it says on
stderr which. It refuses to delete an image that a container was made of.`,
		Example: `  # what would go?
  shale delete-image --test example.com/base:1`,
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeImages,
	}
	test := command.Flags().BoolP("test", "t", false, "only say which layers would go")
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		type outcome struct {
			Layers []string `json:"deleted-layers,omitempty"`
			Error  string   `json:"error,omitempty"`
		}
		outcomes := map[string]outcome{}
		var failed error
		for _, ref := range args {
			layers, err := s.DeleteImage(ctx, ref, !*test)
			outcomes[ref] = outcome{layers, errorText(err)}
			failed = errors.Join(failed, err)
			if err == nil && !*asJSON {
				for _, layer := range layers {
					p.sayf("%s: %s\n", ref, layer)
				}
			}
		}
		if *asJSON {
			return errors.Join(p.printJSON(outcomes), failed)
		}
		return failed
	})
	return command
}
