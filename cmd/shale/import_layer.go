package main

import (
	"context"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) importLayer() *cobra.Command {
	command := &cobra.Command{
		Use:     "import-layer [flags] [PARENT]",
		Aliases: []string{"importlayer"},
		Short:   "Make a layer from a tar archive",
		Long: `Reads a layer's tar archive, plain or compressed with gzip, zstd, bzip2 or xz, from
standard input or from --file, and makes a layer of it on top of PARENT. It prints
the layer's ID and, indented below, its names.

The layer appears when it is whole and on disk. An import that is interrupted leaves
nothing behind. "shale diff" gives back the very same tar archive, byte for byte.`,
		Example: `  # the lowest layer of an image, from a file
  shale import-layer --name base --file base.tar.zst

  # one on top of it, from a pipe
  curl -L https://example.com/layer.tar.gz | shale import-layer --name app base`,
		Args:              arguments(0, 1),
		ValidArgsFunction: p.completeLayers,
	}
	wanted := p.layerFlags(command)
	file := command.Flags().StringP("file", "f", "", "read the archive from `FILE` instead of standard input")
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		options, err := wanted.options(args)
		if err != nil {
			return err
		}
		in, err := p.openInput(ctx, *file)
		if err != nil {
			return err
		}
		defer in.Close()
		line := p.newProgress("importing", in.Size)
		layer, err := s.ImportLayer(ctx, options, in, line.report())
		line.clear()
		if err != nil {
			return err
		}
		return p.printCreated(*asJSON, layer, layer.ID, layer.Names)
	})
	return command
}
