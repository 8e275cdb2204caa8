package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) diff() *cobra.Command {
	command := &cobra.Command{
		Use:   "diff [flags] LAYER [OTHER]",
		Short: "Write what a layer changes as a tar archive",
		Long: `Writes a tar archive of what LAYER changes, compared with its parent or with the layer
OTHER, to standard output or to --file. What it deletes is there as whiteouts
(".wh.name").

A layer that came as an archive goes out as the very same tar, compressed as it was
unless a flag says how to compress it.`,
		Example: `  # what a container has written, compressed
  shale diff --zstd --file web.tar.zst web`,
		Args:              arguments(1, 2),
		ValidArgsFunction: p.completeLayers,
	}
	flags := command.Flags()
	file := flags.StringP("file", "f", "", "write to `FILE` instead of standard output")
	plain := flags.BoolP("uncompressed", "u", false, "do not compress")
	gzip := flags.BoolP("gzip", "c", false, "compress with gzip")
	zstd := flags.BoolP("zstd", "z", false, "compress with zstd")
	bzip2 := flags.BoolP("bzip2", "b", false, "bzip2 can only be read; this flag is refused (also --bz2)")
	xz := flags.BoolP("xz", "x", false, "xz can only be read; this flag is refused")
	flags.SetNormalizeFunc(alias("bz2", "bzip2"))
	command.MarkFlagsMutuallyExclusive("uncompressed", "gzip", "zstd", "bzip2", "xz")
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		var options store.DiffOptions
		for _, choice := range []struct {
			chosen      bool
			compression archive.Compression
		}{{*plain, archive.Uncompressed}, {*gzip, archive.Gzip}, {*zstd, archive.Zstd}, {*bzip2, archive.Bzip2},
			{*xz, archive.Xz}} {
			if choice.chosen {
				options.Compression = &choice.compression
			}
		}
		layer, other := layerPair(args)
		if _, err := s.Layer(ctx, layer); err != nil {
			return err // before a file is made for it
		}
		out, err := p.openOutput(*file)
		if err != nil {
			return err
		}
		line := p.newProgress("writing", diffTotal(ctx, s, layer, other))
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

// output is where a stream goes: a file made for it, or standard output.
type output struct {
	io.Writer
	file *os.File
	mine bool // the file was not there before
}

// openOutput creates path, or takes standard output for "". It won't write an archive to
// a terminal.
func (p *program) openOutput(path string) (*output, error) {
	if path == "" {
		if p.interactive() {
			return nil, errors.New("standard output is a terminal: name a file with --file, or redirect it")
		}
		return &output{Writer: p.stdout}, nil
	}
	_, err := os.Lstat(path)
	mine := errors.Is(err, os.ErrNotExist)
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &output{file, file, mine}, nil
}

func (o *output) Close() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}

// abandon closes the file and removes it, if it was made for this.
func (o *output) abandon() {
	if o.file == nil {
		return
	}
	o.file.Close()
	if o.mine {
		os.Remove(o.file.Name())
	}
}

// diffTotal is the length in bytes of the tar to come, when that is known: the layer came
// as one.
func diffTotal(ctx context.Context, s *store.Store, layer, other string) int64 {
	if other != "" {
		return 0
	}
	size, err := s.LayerSize(ctx, layer)
	if err != nil {
		return 0
	}
	return size
}
