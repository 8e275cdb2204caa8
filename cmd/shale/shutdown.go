package main

import (
	"context"
	"errors"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) shutdown() *cobra.Command {
	command := &cobra.Command{
		Use:   "shutdown [flags]",
		Short: "Let go of the store's mounts",
		Long: `Gives back what the store holds of the host. It refuses while layers are mounted,
unless told to unmount them.`,
		Example: `  # before the disk goes
  shale shutdown --force`,
		Args: arguments(0, 0),
	}
	force := command.Flags().BoolP("force", "f", false, "unmount what is mounted first")
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		mounted, err := s.Shutdown(ctx, *force)
		if p.peer && err == nil && form.json() {
			return p.printJSON("")
		}
		return errors.Join(err, showOne(p, form, struct {
			Mounted []string `json:"mounted"`
		}{emptyWhenNil(mounted)}, func(bool) {}))
	})
	return command
}
