package main

import (
	"context"
	"errors"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) deleteLayer() *cobra.Command {
	return p.deletion(&cobra.Command{
		Use:     "delete-layer [flags] LAYER...",
		Aliases: []string{"deletelayer"},
		Short:   "Delete layers",
		Long: `Deletes layers. It refuses to delete one that another layer, an image or a container
stands on.`,
		Example: `  # by name
  shale delete-layer work`,
		ValidArgsFunction: p.completeLayers,
	}, (*store.Store).DeleteLayer)
}

func (p *program) deleteContainer() *cobra.Command {
	return p.deletion(&cobra.Command{
		Use:     "delete-container [flags] CONTAINER...",
		Aliases: []string{"deletecontainer"},
		Short:   "Delete containers",
		Long:    `Deletes containers: their records, their data and their layers with all that was written there.`,
		Example: `  # by name
  shale delete-container web`,
		ValidArgsFunction: p.completeContainers,
	}, (*store.Store).DeleteContainer)
}

func (p *program) delete() *cobra.Command {
	command := &cobra.Command{
		Use:   "delete [flags] ID...",
		Short: "Delete layers, images and containers",
		Long: `Deletes what each ID or name means: a container, an image or a layer, looked for in this
order, by the rules of delete-container, delete-image and delete-layer.`,
		Example: `  # whatever it is
  shale delete 5528ad66`,
		ValidArgsFunction: p.completeAny,
	}
	if !p.peer {
		return p.deletion(command, deleteByItsRules)
	}
	command.Short = "Delete anything, without asking whether it is needed"
	command.Long = `Deletes layers, images and containers, even those that others stand on, which break
then. The commands delete-layer, delete-image and delete-container are the safe ones.`
	command.Example = `  # a layer whose parent is gone
  shale delete 5528ad66`
	return p.deletion(command, (*store.Store).Delete)
}

// deleteByItsRules deletes a container, an image or a layer as the command for its kind
// does.
func deleteByItsRules(s *store.Store, ctx context.Context, //nolint:revive // as a method expression
	ref string, opts store.DeleteOptions) error {
	err := s.DeleteContainer(ctx, ref, opts)
	if errors.Is(err, errdefs.ErrNotFound) {
		if _, err = s.DeleteImage(ctx, ref, opts); errors.Is(err, errdefs.ErrNotFound) {
			err = s.DeleteLayer(ctx, ref, opts)
		}
	}
	var missing errdefs.Missing
	if errors.As(err, &missing) {
		return errdefs.Missing{Kind: errdefs.AnyObject, Ref: ref}
	}
	return err
}

// deletion completes one of the commands that say nothing about what went well. Our own
// refuse what is mounted, which containers-storage unmounts.
func (p *program) deletion(command *cobra.Command,
	remove func(*store.Store, context.Context, string, store.DeleteOptions) error) *cobra.Command {
	command.Args = arguments(1, -1)
	if !p.peer {
		command.Long += "\nWhat is mounted is refused as well, unless --force says to unmount it first."
	}
	force := p.forceFlag(command)
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		outcomes := map[string]string{}
		var list []deletionOutcome
		var failed error
		for _, ref := range args {
			err := remove(s, ctx, ref, store.DeleteOptions{Force: *force})
			outcomes[ref] = errorText(err)
			list = append(list, deletionOutcome{Ref: ref, Deleted: err == nil, Error: errorText(err)})
			failed = errors.Join(failed, err)
		}
		if p.peer && form.json() {
			return errors.Join(p.printJSON(outcomes), failed)
		}
		return errors.Join(show(p, form, list, func(bool) {}), failed)
	})
	return command
}

// forceFlag adds the flag without which nothing is deleted that is mounted.
// containers-storage has none, and unmounts.
func (p *program) forceFlag(command *cobra.Command) *bool {
	force := new(bool)
	if *force = p.peer; !p.peer {
		force = command.Flags().BoolP("force", "f", false, "unmount what is mounted, and delete it")
	}
	return force
}

// deletionOutcome is how one deletion fared, in our own JSON.
type deletionOutcome struct {
	Ref     string   `json:"ref"`
	Deleted bool     `json:"deleted"`
	Layers  []string `json:"layers,omitempty"` // that went, or would go, with an image
	Error   string   `json:"error,omitempty"`
}

func (p *program) deleteImage() *cobra.Command {
	command := &cobra.Command{
		Use:     "delete-image [flags] IMAGE...",
		Aliases: []string{"deleteimage"},
		Short:   "Delete images",
		Long: `Deletes images, and those of their layers that nothing else stands on; it says which.
It refuses to delete an image that a container was made of.`,
		Example: `  # what would go?
  shale delete-image --` + p.either("dry-run", "test") + ` example.com/base:1`,
		Args:              arguments(1, -1),
		ValidArgsFunction: p.completeImages,
	}
	test := command.Flags().BoolP(p.either("dry-run", "test"), p.either("n", "t"), false,
		"only say which layers would go")
	if !p.peer {
		command.Long += "\nOne that takes a mounted layer with it is refused as well, unless --force says to\n" +
			"unmount it first."
	}
	force := p.forceFlag(command)
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		type outcome struct {
			Layers []string `json:"deleted-layers,omitempty"`
			Error  string   `json:"error,omitempty"`
		}
		outcomes := map[string]outcome{}
		var list []deletionOutcome
		var failed error
		for _, ref := range args {
			layers, err := s.DeleteImage(ctx, ref, store.DeleteOptions{Force: *force, DryRun: *test})
			outcomes[ref] = outcome{layers, errorText(err)}
			list = append(list, deletionOutcome{ref, err == nil && !*test, layers, errorText(err)})
			failed = errors.Join(failed, err)
		}
		if p.peer && form.json() {
			return errors.Join(p.printJSON(outcomes), failed)
		}
		return errors.Join(show(p, form, list, func(bool) {
			for _, o := range list {
				for _, layer := range o.Layers {
					if p.peer {
						p.sayf("%s: %s\n", o.Ref, layer)
					} else {
						p.printf("%s: %s\n", p.said(o.Ref), layer)
					}
				}
			}
		}), failed)
	})
	return command
}
