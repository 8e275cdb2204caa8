package main

import (
	"context"
	"strings"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

// directories are the two commands that say where programs may keep files of their own
// beside an image or a container.
func (p *program) directories(kind string) []*cobra.Command {
	find, findRun, complete := (*store.Store).ImageDirectory, (*store.Store).ImageRunDirectory, p.completeImages
	if kind == "container" {
		find, findRun, complete = (*store.Store).ContainerDirectory, (*store.Store).ContainerRunDirectory,
			p.completeContainers
	}
	build := func(middle, long string, find func(*store.Store, context.Context,
		string) (string, error)) *cobra.Command {
		name := "get-" + kind + middle + "-dir"
		return &cobra.Command{
			Use:               name + " " + placeholders[kind],
			Aliases:           []string{withoutDashes(name)},
			Short:             "Show where to keep " + long,
			Long:              "Makes the directory for " + long + "\nunless it exists, and prints its path.",
			Example:           "  ls \"$(shale " + name + " " + samples[kind] + ")\"",
			Args:              arguments(1, 1),
			ValidArgsFunction: complete,
			RunE: p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
				path, err := find(s, ctx, args[0])
				if err != nil {
					return err
				}
				p.printf("%s\n", path)
				return nil
			}),
		}
	}
	return []*cobra.Command{
		build("", "files with this "+kind, find),
		build("-run", "files with this "+kind+" until the next reboot", findRun),
	}
}

// withoutDashes is a command's name as containers-storage spells it in second place.
func withoutDashes(name string) string { return strings.ReplaceAll(name, "-", "") }
