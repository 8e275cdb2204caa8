package main

import (
	"context"

	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) createLayer() *cobra.Command {
	command := &cobra.Command{
		Use:     "create-layer [flags] [PARENT]",
		Aliases: []string{"createlayer"},
		Short:   "Make an empty layer",
		Long: `Makes an empty layer, on top of PARENT when one is given, and prints its ID. Mount the
layer to fill it.`,
		Example: `  # a writable layer on top of the one named base
  shale create-layer --name work base`,
		Args:              arguments(0, 1),
		ValidArgsFunction: p.completeLayers,
	}
	wanted := p.layerFlags(command)
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, args []string) error {
		options, err := wanted.options(args)
		if err != nil {
			return err
		}
		layer, err := s.CreateLayer(ctx, options)
		if err != nil {
			return err
		}
		return p.printCreated(form, layer, viewLayer(layer, layerUsers{}), layer.ID, layer.Names)
	})
	return command
}

// layerFlags are the flags by which create-layer and import-layer describe the layer they
// make.
type layerFlags struct {
	names    []string
	id       string
	label    string
	readOnly bool
	ids      *idMapFlags
}

func (p *program) layerFlags(command *cobra.Command) *layerFlags {
	wanted := &layerFlags{}
	flags := command.Flags()
	flags.StringArrayVarP(&wanted.names, "name", "n", nil, "give the layer the name `NAME`; may be repeated")
	flags.StringVarP(&wanted.id, "id", "i", "", "give the layer this `ID` (default: 64 random hexadecimal digits)")
	flags.StringVarP(&wanted.label, "label", "l", "", "mount the layer with the SELinux label `LABEL`")
	flags.BoolVarP(&wanted.readOnly, "readonly", "r", false,
		"the layer is an image's: not to be written to once it is filled")
	wanted.ids = idMappingFlags(command)
	return wanted
}

func (f *layerFlags) options(args []string) (layers.CreateOptions, error) {
	mapping, err := f.ids.mapping()
	if err != nil {
		return layers.CreateOptions{}, err
	}
	options := layers.CreateOptions{
		ID:             f.id,
		Names:          f.names,
		MountLabel:     f.label,
		Writable:       !f.readOnly,
		IDMap:          mapping,
		HostUIDMapping: f.ids.hostUIDs,
		HostGIDMapping: f.ids.hostGIDs,
	}
	if len(args) > 0 {
		options.Parent = args[0]
	}
	return options, nil
}

// printCreated says what was made: its record or view, or its ID, to which
// containers-storage adds the names.
func (p *program) printCreated(form *format, record, view any, id string, names []string) error {
	if !p.peer {
		return showOne(p, form, view, func(bool) { p.printf("%s\n", id) })
	}
	if form.json() {
		return p.printJSON(record)
	}
	p.printf("%s\n", id)
	for _, name := range names {
		p.printf("\t%s\n", name)
	}
	return nil
}
