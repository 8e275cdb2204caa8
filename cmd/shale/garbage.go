package main

import (
	"context"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) check() *cobra.Command {
	command := &cobra.Command{
		Use:   "check",
		Short: "Look for what interrupted commands have left",
		Long: `Looks for files of the store that no record names, and for layers whose files are
there while their record is gone. It prints what it finds and exits with status 1 if
that is anything. With --repair it removes them, as "shale gc" does.`,
		Example: `  # after a crash
  shale check || shale gc`,
		Args: arguments(0, 0),
	}
	repair := command.Flags().BoolP("repair", "r", false, "remove what is found")
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		look := s.Check
		if *repair {
			look = s.GC
		}
		found, err := look(ctx)
		if *asJSON {
			if jsonErr := p.printJSON(garbageReport(found)); jsonErr != nil {
				return jsonErr
			}
		} else {
			p.printGarbage(found)
		}
		if err == nil && !*repair && !found.Empty() {
			return errSaid
		}
		return err
	})
	return command
}

func (p *program) gc() *cobra.Command {
	command := &cobra.Command{
		Use:   "gc",
		Short: "Remove what interrupted commands have left",
		Long: `Removes files of the store that no record names: those of layers whose making or
deletion was cut off. It deletes nothing that is listed anywhere.`,
		Example: `  # after a crash, when space matters
  shale gc`,
		Args: arguments(0, 0),
	}
	return p.silent(command, func(s *store.Store, ctx context.Context) error {
		removed, err := s.GC(ctx)
		if p.interactive() {
			p.printGarbage(removed)
		}
		return err
	})
}

// printGarbage says what was found; of layers in the words of containers-storage, which scripts look for.
func (p *program) printGarbage(found store.Garbage) {
	for _, id := range found.Layers {
		p.printf("layer %s:\n layer %s: layer in lower level storage driver not accounted for\n", id, id)
	}
	for _, id := range found.Incomplete {
		p.printf("layer %s:\n layer %s: incomplete: another program was making or deleting it\n", id, id)
	}
	for _, path := range append(found.Temporary, found.Files...) {
		p.printf("%s: left behind\n", path)
	}
}

// garbageReport is what --json prints: layers by ID with what is wrong, as containers-storage has them, and paths beside them.
func garbageReport(found store.Garbage) any {
	report := struct {
		Layers map[string][]string `json:"layers,omitempty"`
		Files  []string            `json:"files,omitempty"`
	}{map[string][]string{}, append(found.Temporary, found.Files...)}
	for _, id := range found.Layers {
		report.Layers[id] = append(report.Layers[id], "layer in lower level storage driver not accounted for")
	}
	for _, id := range found.Incomplete {
		report.Layers[id] = append(report.Layers[id], "incomplete")
	}
	return report
}
