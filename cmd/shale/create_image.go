package main

import (
	"context"
	"fmt"
	"strings"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) createImage() *cobra.Command {
	command := &cobra.Command{
		Use:     "create-image [flags] [LAYER]",
		Aliases: []string{"createimage"},
		Short:   "Make an image of a layer and what is below it",
		Long: `Makes an image whose topmost layer is LAYER, and prints its ID. Without LAYER, or
with "", the image has no files.

With --data the image has its manifest and configuration from the first moment on.
Podman cannot list its images while there is one without a manifest.`,
		Example: `  # an image of the layer named base and its parents
  shale create-image --name example.com/base:1 --data manifest=base.json base`,
		Args:              arguments(0, 1),
		ValidArgsFunction: p.completeLayers,
	}
	var options store.ImageOptions
	flags := command.Flags()
	flags.StringArrayVarP(&options.Names, "name", "n", nil, "give the image the name `NAME`; may be repeated")
	flags.StringVarP(&options.ID, "id", "i", "", "give the image this `ID` (default: 64 random hexadecimal digits)")
	flags.StringVarP((*string)(&options.Digest), "digest", "d", "", "the image can be found by `DIGEST`")
	data := new([]string)
	if p.peer {
		command.Long = `Makes an image whose topmost layer is LAYER. Without LAYER, or with "", the image has no
files.`
		command.Example = `  # an image of the layer named base and its parents
  shale create-image --name example.com/base:1 base`
	} else {
		flags.StringArrayVar(data, "data", nil, "store a file's content as a data item, by `KEY=FILE`; may be repeated")
	}
	metadata := metadataFlags(command)
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		if len(args) > 0 {
			options.TopLayer = args[0]
		}
		if options.Digest != "" {
			if _, err := digest.Parse(string(options.Digest)); err != nil {
				return usageErrorf("--digest %s: %v", options.Digest, err)
			}
		}
		var err error
		if options.Metadata, err = metadata.read(ctx, p); err != nil {
			return err
		}
		for _, pair := range *data {
			item, err := p.readItem(ctx, pair)
			if err != nil {
				return err
			}
			options.BigData = append(options.BigData, item)
		}
		image, err := s.CreateImage(ctx, options)
		if err != nil {
			return err
		}
		return p.printCreated(form, image, viewImage(image), image.ID, image.Names)
	})
	return command
}

// readItem reads the data item that KEY=FILE stands for.
func (p *program) readItem(ctx context.Context, pair string) (images.Item, error) {
	key, path, found := strings.Cut(pair, "=")
	if !found || key == "" || path == "" {
		return images.Item{}, usageErrorf("--data %q: KEY=FILE is expected", pair)
	}
	in, err := p.openInput(ctx, path)
	if err != nil {
		return images.Item{}, err
	}
	defer in.Close()
	data, err := readUpTo(in, dataLimit)
	if err != nil {
		return images.Item{}, fmt.Errorf("%s: %w", path, err)
	}
	return images.Item{Key: key, Data: data}, nil
}
