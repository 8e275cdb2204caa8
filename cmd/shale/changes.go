package main

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/shalestore/shale/archive/diff"
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
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		layer, other := layerPair(args)
		list, err := s.Changes(ctx, layer, other)
		if err != nil {
			return err
		}
		if p.peer && form.json() {
			return p.printJSON(nullWhenEmpty(list))
		}
		views := make([]changeView, 0, len(list))
		for _, change := range list {
			views = append(views, viewChange(change))
		}
		return show(p, form, views, func(bool) {
			for _, change := range list {
				p.printf("%s %q\n", changeWord(change.Kind), change.Path)
			}
		})
	})
	return command
}

// changeView is a change in our own JSON. Bytes holds the path where that is no UTF-8,
// in base64 as JSON has it; Path stands for it then, as far as it can.
type changeView struct {
	Kind  string `json:"kind"`
	Path  string `json:"path"`
	Bytes []byte `json:"path-base64,omitempty"`
}

func viewChange(change diff.Change) changeView {
	view := changeView{Kind: strings.ToLower(changeWord(change.Kind)), Path: change.Path}
	if !utf8.ValidString(change.Path) {
		view.Bytes = []byte(change.Path)
	}
	return view
}

func changeWord(kind diff.ChangeKind) string {
	switch kind {
	case diff.Modified:
		return "Modify"
	case diff.Added:
		return "Add"
	case diff.Deleted:
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
