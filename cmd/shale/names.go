package main

import (
	"context"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) getNames() *cobra.Command {
	command := &cobra.Command{
		Use:     "get-names [flags] ID",
		Aliases: []string{"getnames", "names"},
		Short:   "Show names",
		Long:    `Prints the names of a layer, an image or a container, one on a line.`,
		Example: `  # what else is it called?
  shale get-names base`,
		Args:              arguments(1, 1),
		ValidArgsFunction: p.completeAny,
	}
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		found, err := look(ctx, s, func(tx *store.ReadTx) (store.Record, error) { return tx.Lookup(args[0]) })
		if err != nil {
			return err
		}
		return p.printNames(form, found.Names)
	})
	return command
}

func (p *program) addNames() *cobra.Command {
	return p.changeNames(&cobra.Command{
		Use:     "add-names [flags] ID",
		Aliases: []string{"addnames"},
		Short:   "Add names",
		Long: `Adds names to a layer, an image or a container. A name that another one of its kind
had moves.`,
		Example: `  # a second name for an image
  shale add-names --name example.com/base:latest example.com/base:1`,
	}, "add `NAME`; may be repeated", (*store.WriteTx).AddNames)
}

func (p *program) removeNames() *cobra.Command {
	return p.changeNames(&cobra.Command{
		Use:     "remove-names [flags] ID",
		Aliases: []string{"removenames"},
		Short:   "Remove names",
		Long:    `Takes names from a layer, an image or a container.`,
		Example: `  # the image stays, the tag goes
  shale remove-names --name example.com/base:latest example.com/base:1`,
	}, "remove `NAME`; may be repeated", (*store.WriteTx).RemoveNames)
}

func (p *program) setNames() *cobra.Command {
	return p.changeNames(&cobra.Command{
		Use:     "set-names [flags] ID",
		Aliases: []string{"setnames"},
		Short:   "Replace all names",
		Long: `Gives a layer, an image or a container these names and no others. A name that another
one of its kind had moves.`,
		Example: `  # no names at all
  shale set-names base`,
	}, "one of the new names, `NAME`; may be repeated", (*store.WriteTx).SetNames)
}

// changeNames completes one of the three commands that take --name and print the
// resulting names only as JSON.
func (p *program) changeNames(command *cobra.Command, usage string, change func(*store.WriteTx, string,
	...string) error) *cobra.Command {
	command.Args = arguments(1, -1)
	command.ValidArgsFunction = p.completeAny
	given := command.Flags().StringArrayP("name", "n", nil, usage)
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		var found store.Record
		err := s.Update(ctx, func(tx *store.WriteTx) (err error) {
			if found, err = tx.Lookup(args[0]); err != nil {
				return err
			}
			if err := change(tx, found.ID, *given...); err != nil {
				return err
			}
			found, err = tx.Lookup(found.ID) // the reference may have been one of the names that went
			return err
		})
		switch {
		case err != nil || form.word == "table":
			return err
		case p.peer:
			return p.printJSON(found.Names)
		}
		return p.printNames(form, found.Names)
	})
	return command
}

// printNames prints names or keys, one on a line.
func (p *program) printNames(form *format, names []string) error {
	return show(p, form, names, func(bool) {
		for _, name := range names {
			p.printf("%s\n", p.said(name))
		}
	})
}
