package main

import (
	"context"

	"github.com/shalestore/shale/config/storageconf"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) createContainer() *cobra.Command {
	command := &cobra.Command{
		Use:     "create-container [flags] IMAGE",
		Aliases: []string{"createcontainer"},
		Short:   "Make a container of an image",
		Long: `Makes a container: a record, and a writable layer on top of IMAGE's topmost one. It
prints the container's ID. An IMAGE of "" stands for no image; the container's layer
has then no parent.`,
		Example: `  # a container, and where its files are
  shale create-container --name web example.com/base:1
  shale mount web`,
		Args:              arguments(1, 1),
		ValidArgsFunction: p.completeImages,
	}
	var options store.ContainerOptions
	flags := command.Flags()
	flags.StringArrayVarP(&options.Names, "name", "n", nil, "give the container the name `NAME`; may be repeated")
	flags.StringVarP(&options.ID, "id", "i", "", "give the container this `ID` (default: 64 random hexadecimal digits)")
	flags.BoolVar(&options.Volatile, "volatile", false,
		"the container need not survive a crash or a reboot: its files are never synced")
	size, inodes, auto := new(string), new(uint64), new(bool)
	if !p.peer {
		command.Example += `

  # one that may write 10 GiB
  shale create-container --size 10G example.com/base:1

  # one with user and group IDs of its own
  shale create-container --auto-userns example.com/base:1`
		flags.StringVar(size, "size", "",
			"its files may take `SIZE` at most, such as 10G, on a file system with project quotas; "+
				"0 for no limit (default: storage.conf's size)")
		flags.Uint64Var(inodes, "inodes", 0,
			"it may have `NUMBER` files and directories at most; 0 for no limit (default: storage.conf's inodes)")
		flags.BoolVar(auto, "auto-userns", false, "map IDs that no other container has, as many as the image needs")
	}
	metadata := metadataFlags(command)
	ids := idMappingFlags(command)
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		options.Image = args[0]
		var err error
		if options.Metadata, err = metadata.read(ctx, p); err != nil {
			return err
		}
		if options.IDMap, err = ids.mapping(); err != nil {
			return err
		}
		options.HostUIDMapping, options.HostGIDMapping = ids.hostUIDs, ids.hostGIDs
		if flags.Changed("size") {
			bytes, err := storageconf.ParseSize(*size)
			if err != nil {
				return usageErrorf("--size: %v", err)
			}
			options.Limits.Bytes = &bytes
		}
		if flags.Changed("inodes") {
			options.Limits.Inodes = inodes
		}
		if *auto {
			options.AutoUserns = &store.AutoUserns{}
		}
		container, err := s.CreateContainer(ctx, options)
		if err != nil {
			return err
		}
		return p.printCreated(form, container, viewContainer(container, nil), container.ID, container.Names)
	})
	return command
}
