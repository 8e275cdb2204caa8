package main

import (
	"context"
	"strings"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

// Images and containers have two directories each, where programs may keep files of their
// own beside them.

func (p *program) imageDirectory() *cobra.Command {
	return p.directory("image", "", "files with this image", (*store.ReadTx).ImageDirectory, p.completeImages)
}

func (p *program) imageRunDirectory() *cobra.Command {
	return p.directory("image", "-run", "files with this image until the next reboot",
		(*store.ReadTx).ImageRunDirectory, p.completeImages)
}

func (p *program) containerDirectory() *cobra.Command {
	return p.directory("container", "", "files with this container", (*store.ReadTx).ContainerDirectory,
		p.completeContainers)
}

func (p *program) containerRunDirectory() *cobra.Command {
	return p.directory("container", "-run", "files with this container until the next reboot",
		(*store.ReadTx).ContainerRunDirectory, p.completeContainers)
}

func (p *program) directory(kind, middle, purpose string, find func(*store.ReadTx, string) (string, error),
	complete cobra.CompletionFunc) *cobra.Command {
	name := "get-" + kind + middle + "-dir"
	return &cobra.Command{
		Use:               name + " " + placeholders[kind],
		Aliases:           []string{withoutDashes(name)},
		Short:             "Show where to keep " + purpose,
		Long:              "Makes the directory for " + purpose + "\nunless it exists, and prints its path.",
		Example:           "  ls \"$(shale " + name + " " + samples[kind] + ")\"",
		Args:              arguments(1, 1),
		ValidArgsFunction: complete,
		RunE: p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
			path, err := look(ctx, s, func(tx *store.ReadTx) (string, error) { return find(tx, args[0]) })
			if err != nil {
				return err
			}
			p.printf("%s\n", path)
			return nil
		}),
	}
}

// withoutDashes is a command's name as containers-storage spells it in second place.
func withoutDashes(name string) string { return strings.ReplaceAll(name, "-", "") }
