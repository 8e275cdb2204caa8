package main

import (
	"context"
	"maps"
	"slices"

	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
	"github.com/spf13/cobra"
)

func (p *program) gc() *cobra.Command {
	command := &cobra.Command{
		Use:   "gc",
		Short: "Remove what interrupted commands have left",
		Long: `Removes files of the store that no record names: those of layers whose making or
deletion was cut off. It deletes nothing that is listed anywhere, and nothing that another
process is at work on. It says on a terminal what went, and how much space that gives back.`,
		Example: `  # after a crash, when space matters
  shale gc

  # what would go
  shale gc --dry-run`,
		Args: arguments(0, 0),
	}
	dryRun := command.Flags().BoolP("dry-run", "n", false, "only say what would be removed")
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		removed, err := fsck.GC(ctx, s, fsck.GCOptions{DryRun: *dryRun})
		if *asJSON && err == nil && !*dryRun {
			return p.printJSON("") // what containers-storage prints
		}
		if *asJSON && err == nil {
			return p.printJSON(reportJSON(removed.Report, nil))
		}
		if *dryRun || p.interactive() {
			verb := "freed"
			if *dryRun {
				verb = "to be freed"
			}
			for _, f := range removed.Findings {
				p.printf("%s\n", f)
			}
			p.printf("%s %s\n", bytesText(removed.Bytes), verb)
		}
		return err
	})
	return command
}

func sortedKeys(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }
