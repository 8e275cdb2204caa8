package main

import (
	"context"
	"fmt"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) images() *cobra.Command {
	command := &cobra.Command{
		Use:   "images [flags]",
		Short: "List images",
		Long:  `Lists the images of the store with their names, digests and data items.`,
		Example: `  # the names of all images
  shale images --json | jq -r '.[].names[]'`,
		Args: arguments(0, 0),
	}
	quiet := p.quietFlag(command, "quiet")
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		list, err := look(ctx, s, (*store.ReadTx).Images)
		if err != nil {
			return err
		}
		if p.peer && form.json() {
			return p.printJSON(nullWhenEmpty(list))
		}
		return p.printImages(form, list, *quiet)
	})
	return command
}

func (p *program) imagesByDigest() *cobra.Command {
	command := &cobra.Command{
		Use:   "images-by-digest [flags] DIGEST",
		Short: "List the images with a digest",
		Long:  `Lists the images that have DIGEST, or a manifest of that digest, as "shale images" does.`,
		Example: `  # is this image here?
  shale images-by-digest sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1`,
		Args: arguments(1, 1),
	}
	quiet := p.quietFlag(command, "quiet")
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		wanted, err := digest.Parse(args[0])
		if err != nil {
			return usageErrorf("%s: %v", args[0], err)
		}
		list, err := look(ctx, s, func(tx *store.ReadTx) ([]images.Image, error) { return tx.ImagesByDigest(wanted) })
		if err != nil {
			return err
		}
		return p.printImages(form, list, *quiet)
	})
	return command
}

func (p *program) printImages(form *format, list []images.Image, quiet bool) error {
	switch {
	case quiet:
		for _, image := range list {
			p.printf("%s\n", image.ID)
		}
		return nil
	case p.peer && form.json():
		return p.printJSON(emptyWhenNil(list))
	case p.peer:
		p.printPeerImages(list)
		return nil
	}
	views := make([]imageView, 0, len(list))
	for _, image := range list {
		views = append(views, viewImage(image))
	}
	return show(p, form, views, func(wide bool) {
		t := p.newTable(wide, "IMAGE", "NAME", "TOP LAYER", "CREATED", "+DIGESTS", "+DATA")
		for _, image := range views {
			t.row(t.id(image.ID), t.names(image.Names), t.id(image.TopLayer), ago(image.Created),
				t.list(texts(image.Digests())), t.names(image.BigDataNames))
		}
		t.flush()
	})
}

// printPeerImages prints what containers-storage does.
func (p *program) printPeerImages(list []images.Image) {
	for _, image := range list {
		p.printf("%s\n", image.ID)
		for _, name := range image.Names {
			p.printf("\tname: %s\n", name)
		}
		for _, value := range image.Digests() {
			p.printf("\tdigest: %s\n", value)
		}
		for _, key := range image.BigDataNames {
			p.printf("\tdata: %s\n", key)
		}
	}
}

// texts turns what can be printed into text.
func texts[T ~string](list []T) []string {
	var all []string
	for _, one := range list {
		all = append(all, string(one))
	}
	return all
}

// quietFlag is the flag to print IDs only, which containers-storage calls in two ways.
func (p *program) quietFlag(command *cobra.Command, name string) *bool {
	if !p.peer && name != "quiet" {
		command.Flags().SetNormalizeFunc(alias(name, "quiet"))
		return command.Flags().BoolP("quiet", "q", false, fmt.Sprintf("print IDs only (also --%s)", name))
	}
	return command.Flags().BoolP(name, "q", false, "print IDs only")
}
