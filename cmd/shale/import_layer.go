package main

import (
	"context"
	"errors"
	"os"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
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
the layer's ID.

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
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		options, err := wanted.options(args)
		if err != nil {
			return err
		}
		if err := knownParent(ctx, s, options.Parent); err != nil {
			return err
		}
		in, err := p.openArchive(ctx, *file)
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
		return p.printCreated(form, layer, viewLayer(layer, layerUsers{}), layer.ID, layer.Names)
	})
	return command
}

// knownParent tells those of --file who have named a file where a layer is expected,
// before standard input is waited for.
func knownParent(ctx context.Context, s *store.Store, parent string) error {
	if info, err := os.Stat(parent); parent == "" || err != nil || !info.Mode().IsRegular() {
		return nil // what there is to say is said when the layer is made
	}
	_, err := look(ctx, s, func(tx *store.ReadTx) (layers.Layer, error) { return tx.Layer(parent) })
	if errors.Is(err, errdefs.ErrNotFound) {
		return advised{err, "there is a file of that name: an archive to read is named with --file"}
	}
	return err
}
