package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) cp() *cobra.Command { return p.copyFiles("cp", "") }

func (p *program) peerCopy() *cobra.Command { return p.copyFiles("copy", "o") }

func (p *program) copyFiles(name, shorthand string) *cobra.Command {
	command := &cobra.Command{
		Use:   name + " [flags] [LAYER:]PATH... [LAYER:]PATH",
		Short: "Copy files into a layer, or out of one",
		Long: `Copies files and directories to the last argument. A PATH without LAYER is one of the
host. Owners are translated from the mapping of one layer to that of the other; --chown
sets them.

A file gets the target's name, or keeps its own below a target that ends in "/". What
is in a directory goes into the target, which is made if it is missing.`,
		Example: `  # a configuration, owned by the layer's user 100
  shale ` + name + ` --chown 100:100 nginx.conf web:/etc/nginx/

  # a whole directory, from one layer to another
  shale ` + name + ` build:/out release:/usr/share/app`,
		Args:              arguments(2, -1),
		ValidArgsFunction: p.completeLayers,
	}
	owner := command.Flags().StringP("chown", shorthand, "",
		"make `UID[:GID]` the owner of the copies; GID is UID when it isn't given")
	if p.peer {
		p.formatFlags(command) // which changes nothing there either
	}
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		var options store.CopyOptions
		if *owner != "" {
			to, err := parseOwner(*owner)
			if err != nil {
				return err
			}
			options.Owner = &to
		}
		last := len(args) - 1
		for _, source := range args[:last] {
			if err := s.Copy(ctx, location(source), location(args[last]), options); err != nil {
				return err
			}
		}
		return nil
	})
	return command
}

// location splits LAYER:PATH. A colon behind a slash belongs to the path.
func location(arg string) store.Location {
	layer, path, ok := strings.Cut(arg, ":")
	if !ok || strings.Contains(layer, "/") {
		return store.Location{Path: arg}
	}
	return store.Location{Layer: layer, Path: path}
}

func parseOwner(value string) (apply.Owner, error) {
	uid, gid, ok := strings.Cut(value, ":")
	if !ok {
		gid = uid
	}
	var ids [2]uint32
	for i, text := range []string{uid, gid} {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return apply.Owner{}, usageErrorf("--chown %s: %q is no numeric ID; names are known only inside the layer",
				value, text)
		}
		ids[i] = uint32(id)
	}
	return apply.Owner{UID: ids[0], GID: ids[1]}, nil
}
