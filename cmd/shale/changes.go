package main

import (
	"context"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) changes() *cobra.Command {
	command := &cobra.Command{
		Use:   "changes [flags] LAYER [OTHER]",
		Short: "List what a layer changes",
		Long: `Lists the files that LAYER adds, modifies and deletes, compared with its parent or
with the layer OTHER.`,
		Example: `  # what a container has written
  shale changes web`,
		Args:              arguments(1, 2),
		ValidArgsFunction: p.completeLayers,
	}
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		layer, other := layerPair(args)
		list, err := s.Changes(ctx, layer, other)
		if err != nil {
			return err
		}
		if *asJSON {
			return p.printJSON(nullWhenEmpty(list))
		}
		for _, change := range list {
			p.printf("%s %q\n", changeWord(change.Kind), change.Path)
		}
		return nil
	})
	return command
}

func changeWord(kind archive.ChangeKind) string {
	switch kind {
	case archive.Modified:
		return "Modify"
	case archive.Added:
		return "Add"
	case archive.Deleted:
		return "Delete"
	}
	return "?"
}

func (p *program) diffSize() *cobra.Command {
	command := &cobra.Command{
		Use:     "diffsize LAYER [OTHER]",
		Aliases: []string{"diff-size"},
		Short:   "Count the bytes that a layer changes",
		Long: `Prints the size in bytes of what LAYER changes, compared with its parent or with the
layer OTHER. It is the size of the files, not that of the archive "shale diff" makes.`,
		Example: `  # how much has a container written?
  shale diffsize web`,
		Args:              arguments(1, 2),
		ValidArgsFunction: p.completeLayers,
	}
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		layer, other := layerPair(args)
		size, err := s.DiffSize(ctx, layer, other)
		if err != nil {
			return err
		}
		p.printf("%d\n", size)
		return nil
	})
	return command
}

// layerPair is a layer and what to compare it with; "" is its parent.
func layerPair(args []string) (layer, other string) {
	if len(args) > 1 {
		return args[0], args[1]
	}
	return args[0], ""
}
