package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/manifest"
	"github.com/spf13/cobra"
)

func (p *program) createImage() *cobra.Command {
	command := &cobra.Command{
		Use:     "create-image [flags] [LAYER]",
		Aliases: []string{"createimage"},
		Short:   "Make an image of a layer and what is below it",
		Long: `Makes an image whose topmost layer is LAYER, and prints its ID. Without LAYER, or
with "", the image has no files.

With --data the image has its manifest and config from the first moment on; the config's
key is its digest. Where no manifest is given, one and a config are made of the layers,
since Podman can't list its images while there is one without. That wants layers that
were imported, and so have a digest. --bare makes none.`,
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
	data, bare := new([]string), new(bool)
	if p.peer {
		command.Long = `Makes an image whose topmost layer is LAYER. Without LAYER, or with "", the image has no
files.`
		command.Example = `  # an image of the layer named base and its parents
  shale create-image --name example.com/base:1 base`
	} else {
		flags.BoolVar(bare, "bare", false, "make no manifest where none is given")
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
		if !p.peer {
			if err := describe(ctx, s, &options, *bare); err != nil {
				return err
			}
		}
		image, err := s.CreateImage(ctx, options)
		if err != nil {
			return err
		}
		return p.printCreated(form, image, viewImage(image), image.ID, image.Names)
	})
	return command
}

// describe looks at the manifests among a new image's data items, and where there is none
// adds one that is made of the layers, with a config. Its digest is then the image's ID,
// as it is with Podman, unless another is asked for.
func describe(ctx context.Context, s *store.Store, options *store.ImageOptions, bare bool) error {
	var keys []string
	for _, item := range options.BigData {
		keys = append(keys, item.Key)
	}
	for _, item := range options.BigData {
		if manifest.IsKey(item.Key) {
			if err := manifest.Check(item.Data, keys); err != nil {
				return fmt.Errorf("data item %q: %w", item.Key, err)
			}
		}
	}
	if bare || slices.ContainsFunc(keys, manifest.IsKey) {
		return nil
	}
	if options.ID != "" { // an image of another store is copied with all that it has
		found, err := look(ctx, s, func(tx *store.ReadTx) (images.Image, error) { return tx.Image(options.ID) })
		if err == nil && found.ID == options.ID {
			return nil
		}
	}
	options.Created = time.Now()
	items, err := manifest.Describe(ctx, s, options.TopLayer, options.Created)
	var layer manifest.NoDigest
	if errors.As(err, &layer) {
		return advised{err, strings.TrimSpace(fmt.Sprintf("`shale diff --uncompressed --output layer.tar %s` and "+
			"`shale import-layer --file layer.tar %s", shortID(layer.Layer), shortID(layer.Parent))) +
			"` make one that has; or --bare makes an image that Podman can't list"}
	}
	if err != nil {
		return err
	}
	options.BigData = append(options.BigData, items...)
	if options.ID == "" {
		options.ID = digest.Digest(items[1].Key).Encoded()
	}
	return nil
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
