package main

import (
	"context"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) applyDiff() *cobra.Command {
	command := &cobra.Command{
		Use:     "apply-diff [flags] LAYER",
		Aliases: []string{"applydiff"},
		Short:   "Unpack a tar archive over a layer",
		Long: `Reads a tar archive, plain or compressed with gzip, zstd, bzip2 or xz, from standard
input or from --file, and applies it to LAYER: files are added and replaced, and
whiteouts (".wh.name") remove them. LAYER changes as a whole or not at all.`,
		Example: `  # what changed there comes here
  shale --graph /there diff work | shale --graph /here apply-diff work`,
		Args:              arguments(1, 1),
		ValidArgsFunction: p.completeLayers,
	}
	file := command.Flags().StringP("file", "f", "", "read the archive from `FILE` instead of standard input")
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		in, err := p.openArchive(ctx, *file)
		if err != nil {
			return err
		}
		defer in.Close()
		line := p.newProgress("applying", in.Size)
		_, err = s.ApplyDiff(ctx, args[0], in, line.report())
		line.clear()
		return err
	})
	return command
}
