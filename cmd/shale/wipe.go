package main

import (
	"bufio"
	"context"
	"errors"
	"strings"

	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) wipe() *cobra.Command {
	command := &cobra.Command{
		Use:   "wipe [flags]",
		Short: "Delete everything",
		Long:  `Deletes all containers, all images and all layers, without asking.`,
		Example: `  # start afresh
  shale wipe`,
		Args: arguments(0, 0),
	}
	yes := new(bool)
	if !p.peer {
		command.Long = `Deletes all containers, all images and all layers. It asks first, and wants --yes where
there is no terminal to ask at. While something is mounted it refuses, unless told to
unmount it.`
		command.Example += ` --yes`
		yes = command.Flags().BoolP("yes", "y", false, "don't ask")
	}
	force := p.forceFlag(command)
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		if !p.peer && !*yes {
			err := s.Wipe(ctx, store.DeleteOptions{Force: *force, DryRun: true})
			if err != nil {
				return err
			}
			if err = p.askBeforeWipe(ctx, s); err != nil {
				return err
			}
		}
		if err := s.Wipe(ctx, store.DeleteOptions{Force: *force}); err != nil {
			return err
		}
		if p.peer && form.json() {
			return p.printJSON("")
		}
		return showOne(p, form, struct {
			Wiped bool `json:"wiped"`
		}{true}, func(bool) {})
	})
	return command
}

// askBeforeWipe asks at the terminal whether all there is may go.
func (p *program) askBeforeWipe(ctx context.Context, s *store.Store) error {
	if terminal(p.stdin) == nil || terminal(p.stderr) == nil {
		return usageError("there is no terminal to ask at: --yes says that everything may be deleted")
	}
	containers, err := look(ctx, s, (*store.ReadTx).Containers)
	if err != nil {
		return err
	}
	images, err := look(ctx, s, (*store.ReadTx).Images)
	if err != nil {
		return err
	}
	layers, err := look(ctx, s, (*store.ReadTx).Layers)
	if err != nil {
		return err
	}
	p.sayf("Delete %s, %s and %s in %s? [y/N] ", count(len(containers), "container"), count(len(images), "image"),
		count(len(layers), "layer"), s.Config().GraphRoot)
	in, err := p.openInput(ctx, "")
	if err != nil {
		return err
	}
	defer in.Close()
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing was deleted")
	}
	return nil
}
