package main

import (
	"context"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) shutdown() *cobra.Command {
	command := &cobra.Command{
		Use:   "shutdown",
		Short: "Let go of the store's mounts",
		Long: `Gives back what the store holds of the host. It refuses while layers are mounted,
unless told to unmount them.`,
		Example: `  # before the disk goes
  shale shutdown --force`,
		Args: arguments(0, 0),
	}
	force := command.Flags().BoolP("force", "f", false, "unmount what is mounted first")
	return p.silent(command, func(s *store.Store, ctx context.Context) error {
		_, err := s.Shutdown(ctx, *force)
		return err
	})
}

func (p *program) wipe() *cobra.Command {
	command := &cobra.Command{
		Use:   "wipe",
		Short: "Delete everything",
		Long:  `Deletes all containers, all images and all layers, without asking.`,
		Example: `  # start afresh
  shale wipe`,
		Args: arguments(0, 0),
	}
	return p.silent(command, (*store.Store).Wipe)
}

// silent completes a command that says nothing, or "" with --json, when all went well.
func (p *program) silent(command *cobra.Command, work func(*store.Store, context.Context) error) *cobra.Command {
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		if err := work(s, ctx); err != nil {
			return err
		}
		if *asJSON {
			return p.printJSON("")
		}
		return nil
	})
	return command
}
