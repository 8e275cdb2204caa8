package main

import (
	"context"

	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) diff() *cobra.Command {
	command := &cobra.Command{
		Use:   "diff [flags] LAYER [OTHER]",
		Short: "Write what a layer changes as a tar archive",
		Long: `Writes a tar archive of what LAYER changes, compared with its parent or with the layer
OTHER, to standard output or to a file. What it deletes is there as whiteouts
(".wh.name").

A layer that came as an archive goes out as the very same tar, compressed as it was
unless a flag says how to compress it.`,
		Example: `  # what a container has written, compressed
  shale diff --gzip --` + p.outputName() + ` web.tar.gz web`,
		Args:              arguments(1, 2),
		ValidArgsFunction: p.completeLayers,
	}
	flags := command.Flags()
	file := p.outputFlag(command)
	plain := flags.BoolP("uncompressed", "u", false, "do not compress")
	gzip := flags.BoolP("gzip", "c", false, "compress with gzip")
	leaveOut := flags.Bool("leave-out-whiteout-names", false,
		`leave files out whose names begin with ".wh.", with a warning, in place of failing`)
	bzip2, xz, zstd := new(bool), new(bool), new(bool)
	if p.peer {
		bzip2 = flags.BoolP("bzip2", "b", false, "bzip2 can only be read; this flag is refused (also --bz2)")
		xz = flags.BoolP("xz", "x", false, "xz can only be read; this flag is refused")
		flags.SetNormalizeFunc(alias("bz2", "bzip2"))
		exclusive(command, "uncompressed", "gzip", "bzip2", "xz")
	} else {
		zstd = flags.BoolP("zstd", "z", false, "compress with zstd")
		exclusive(command, "uncompressed", "gzip", "zstd")
	}
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		var options store.DiffOptions
		if *leaveOut {
			options.LeaveOut = func(path string) { p.log.Warnf("left out: %q would be read as a whiteout", path) }
		}
		for _, choice := range []struct {
			chosen      bool
			compression compress.Kind
		}{{*plain, compress.None}, {*gzip, compress.Gzip}, {*zstd, compress.Zstd}, {*bzip2, compress.Bzip2},
			{*xz, compress.Xz}} {
			if choice.chosen {
				options.Compression = &choice.compression
			}
		}
		layer, other := layerPair(args)
		found, err := look(ctx, s, func(tx *store.ReadTx) (layers.Layer, error) { return tx.Layer(layer) })
		if err != nil {
			return err // before a file is made for it
		}
		out, err := p.openOutput(*file)
		if err != nil {
			return err
		}
		line := p.newProgress("writing", diffTotal(found, other))
		options.Progress = line.report()
		err = s.Diff(ctx, out, layer, other, options)
		line.clear()
		if err != nil {
			out.abandon()
			return err
		}
		return out.Close()
	})
	return command
}

// diffTotal is the length in bytes of the tar to come, when that is known: the layer came
// as one.
func diffTotal(layer layers.Layer, other string) int64 {
	if other != "" {
		return 0
	}
	return layer.Size()
}
