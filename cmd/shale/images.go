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
		Use:   "images",
		Short: "List images",
		Long: `Lists the images of the store with their names, digests and data items.

At a terminal this is a table; a pipe gets the text that containers-storage prints.`,
		Example: `  # the names of all images
  shale images --json | jq -r '.[].names[]?'`,
		Args: arguments(0, 0),
	}
	quiet := command.Flags().BoolP("quiet", "q", false, "print IDs only")
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		list, err := s.Images(ctx)
		if err != nil {
			return err
		}
		if *asJSON {
			return p.printJSON(nullWhenEmpty(list))
		}
		p.printImages(list, *quiet)
		return nil
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
	quiet := command.Flags().BoolP("quiet", "q", false, "print IDs only")
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		wanted, err := digest.Parse(args[0])
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		list, err := s.ImagesByDigest(ctx, wanted)
		if err != nil {
			return err
		}
		if *asJSON {
			return p.printJSON(emptyWhenNil(list))
		}
		p.printImages(list, *quiet)
		return nil
	})
	return command
}

func (p *program) printImages(list []images.Image, quiet bool) {
	if p.interactive() && !quiet {
		t := p.newTable("IMAGE", "NAME", "TOP LAYER", "CREATED")
		for _, image := range list {
			t.row(shortID(image.ID), firstOf(image.Names), shortID(image.TopLayer), ago(image.Created))
		}
		t.flush()
		return
	}
	for _, image := range list {
		p.printf("%s\n", image.ID)
		if quiet {
			continue
		}
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

// emptyWhenNil makes an empty list print as [], where containers-storage prints it so.
func emptyWhenNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
