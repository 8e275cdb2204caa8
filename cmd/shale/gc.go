package main

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"github.com/spf13/cobra"
)

func (p *program) gc() *cobra.Command {
	command := &cobra.Command{
		Use:   "gc [flags]",
		Short: "Remove what interrupted commands have left",
		Long: `Removes files of the store that no record names: those of layers whose making or
deletion was cut off. It deletes nothing that is listed anywhere, and nothing that another
process is at work on. It says what went, and how much space that gives back.`,
		Example: `  # after a crash, when space matters
  shale gc`,
		Args: arguments(0, 0),
	}
	dryRun := new(bool)
	if !p.peer {
		command.Example += "\n\n  # what would go\n  shale gc --dry-run"
		dryRun = command.Flags().BoolP("dry-run", "n", false, "only say what would be removed")
	}
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		line := p.newProgress("looking", 0)
		removed, err := fsck.GC(ctx, s, fsck.GCOptions{DryRun: *dryRun})
		line.clear()
		switch {
		case p.peer && form.json() && err == nil:
			return p.printJSON("")
		case p.peer:
			return err
		}
		verb := "freed"
		if *dryRun {
			verb = "to be freed"
		}
		view := collected{emptyWhenNil(removed.Findings), removed.Bytes, *dryRun}
		return errors.Join(showOne(p, form, view, func(bool) {
			for _, f := range removed.Findings {
				p.printf("%s\n", f)
			}
			p.printf("%s %s\n", bytesText(removed.Bytes), verb)
		}), err)
	})
	return command
}

// collected is what gc has removed, in our own JSON.
type collected struct {
	Removed []fsck.Finding `json:"removed"`
	Bytes   int64          `json:"bytes"`
	DryRun  bool           `json:"dry-run"` // it is there still
}

func sortedKeys(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }
