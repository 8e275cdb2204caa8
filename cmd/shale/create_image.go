package main

import (
	"context"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) createImage() *cobra.Command {
	command := &cobra.Command{
		Use:     "create-image [flags] [LAYER]",
		Aliases: []string{"createimage"},
		Short:   "Make an image of a layer and what is below it",
		Long: `Makes an image whose topmost layer is LAYER, and prints its ID and, indented below,
its names. Without LAYER, or with "", the image has no files.`,
		Example: `  # an image of the layer named base and its parents
  shale create-image --name example.com/base:1 base`,
		Args:              arguments(0, 1),
		ValidArgsFunction: p.completeLayers,
	}
	var options store.ImageOptions
	flags := command.Flags()
	flags.StringArrayVarP(&options.Names, "name", "n", nil, "give the image the name `NAME`; may be repeated")
	flags.StringVarP(&options.ID, "id", "i", "", "give the image this `ID` (default: 64 random hexadecimal digits)")
	flags.StringVarP((*string)(&options.Digest), "digest", "d", "", "the image can be found by `DIGEST`")
	metadata := metadataFlags(command)
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		if len(args) > 0 {
			options.TopLayer = args[0]
		}
		if options.Digest != "" {
			if _, err := digest.Parse(string(options.Digest)); err != nil {
				return err
			}
		}
		var err error
		if options.Metadata, err = metadata.read(ctx, p); err != nil {
			return err
		}
		image, err := s.CreateImage(ctx, options)
		if err != nil {
			return err
		}
		return p.printCreated(*asJSON, image, image.ID, image.Names)
	})
	return command
}
