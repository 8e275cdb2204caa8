package main

import (
	"context"
	"errors"
	"io"

	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) applyStaged() *cobra.Command {
	command := &cobra.Command{
		Use:   "applydiff-using-staging-dir LAYER DIRECTORY",
		Short: "Put a directory's content into a layer",
		Long: `Adds the files in DIRECTORY to LAYER as apply-diff does with those of an archive: they
are brought together aside and take their place all at once.`,
		Example: `  # what a build has made becomes a layer
  layer=$(shale create-layer base)
  shale applydiff-using-staging-dir $layer ./out`,
		Args:              arguments(2, 2),
		ValidArgsFunction: p.completeLayers,
	}
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		layer, err := look(ctx, s, func(tx *store.ReadTx) (layers.Layer, error) { return tx.Layer(args[0]) })
		if err != nil {
			return err
		}
		line := p.newProgress("applying", 0)
		defer line.clear()
		r, w := io.Pipe()
		packed := make(chan error, 1)
		go func() {
			err := diff.WriteTree(ctx, w, args[1], "", diff.Options{})
			w.CloseWithError(err)
			packed <- err
		}()
		_, err = s.ApplyDiff(ctx, layer.ID, r, line.report())
		r.CloseWithError(err)
		if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
			return perr // the cause, where both have failed
		}
		return err
	})
	return command
}
