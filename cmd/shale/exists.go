package main

import (
	"context"
	"errors"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) exists() *cobra.Command {
	command := &cobra.Command{
		Use:   "exists [flags] ID...",
		Short: "Ask whether something exists",
		Long: `Says of each ID or name whether there is a layer, an image or a container of it, and
exits with status 4 when one is missing.`,
		Example: `  # import the base layer unless it is here
  shale exists --quiet --layer base || shale import-layer --name base --file base.tar`,
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeAny,
	}
	flags := command.Flags()
	quiet := flags.BoolP("quiet", "q", false, "print nothing")
	layer := flags.BoolP("layer", "l", false, "only a layer counts")
	image := flags.BoolP("image", "i", false, "only an image counts")
	container := flags.BoolP("container", "c", false, "only a container counts")
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		// What containers-storage prints is whether anything of that name exists; the
		// kinds asked for decide its exit status alone.
		type answer struct {
			Ref    string `json:"ref"`
			Exists bool   `json:"exists"`
		}
		var answers []answer
		missing := false
		for _, ref := range args {
			found, wanted := false, true
			err := s.View(ctx, func(tx *store.ReadTx) error {
				for _, kind := range []struct {
					asked bool
					find  func() error
				}{
					{true, func() error { _, err := tx.Lookup(ref); found = err == nil; return err }},
					{*layer, func() error { _, err := tx.Layer(ref); return err }},
					{*image, func() error { _, err := tx.Image(ref); return err }},
					{*container, func() error { _, err := tx.Container(ref); return err }},
				} {
					if !kind.asked {
						continue
					}
					if err := kind.find(); errors.Is(err, errdefs.ErrNotFound) {
						wanted = false
					} else if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			missing = missing || !wanted
			answers = append(answers, answer{ref, found && p.peer || wanted})
		}
		var err error
		if p.peer && form.json() {
			byRef := map[string]bool{}
			for _, a := range answers {
				byRef[a.Ref] = a.Exists
			}
			err = p.printJSON(byRef)
		} else if !*quiet || form.json() {
			err = show(p, form, answers, func(bool) {
				for _, a := range answers {
					p.printf("%s: %v\n", p.said(a.Ref), a.Exists)
				}
			})
		}
		if missing && err == nil {
			return said(statusNotFound)
		}
		return err
	})
	return command
}
