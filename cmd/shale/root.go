package main

import (
	"fmt"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// globalFlags may stand before or after the command's name.
type globalFlags struct {
	graphRoot  string
	runRoot    string
	imageStore string
	driver     string
	options    []string
	transient  bool
	debug      bool
	unshare    bool
}

func (g *globalFlags) register(flags *pflag.FlagSet) {
	flags.StringVarP(&g.graphRoot, "graph", "g", "", "keep the store in `DIR` instead of storage.conf's graphroot")
	flags.StringVarP(&g.runRoot, "run", "R", "",
		"keep what need not survive a reboot in `DIR` instead of storage.conf's runroot")
	flags.StringVar(&g.imageStore, "image-store", "", "keep images and their layers in `DIR`, apart from containers")
	flags.StringVarP(&g.driver, "storage-driver", "s", "",
		"use the driver `NAME`: overlay or vfs (also $STORAGE_DRIVER)")
	flags.StringArrayVar(&g.options, "storage-opt", nil,
		"set a driver option, `KEY=VALUE`; may be repeated (also $STORAGE_OPTS)")
	flags.BoolVar(&g.transient, "transient-store", false,
		"keep the records of containers in the run root, to be forgotten at a reboot")
	flags.BoolVarP(&g.debug, "debug", "D", false, "say on stderr what is done")
	flags.BoolVarP(&g.unshare, "unshare", "U", false, "work in a user namespace (the default for an ordinary user)")
}

// The groups that help and docs/cli.md put commands in.
const (
	groupLayers     = "layers"
	groupImages     = "images"
	groupContainers = "containers"
	groupAny        = "any"
	groupStore      = "store"
)

// rootCommand builds the whole command tree. What is not listed here does not exist.
func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "shale [global flags] COMMAND [flags] [arguments]",
		Short: "One layer store for a Linux host",
		Long: `Shale keeps each layer of a Linux host once, in the on-disk format that Podman,
Buildah, Skopeo and CRI-O share. It shares their store, at the same time as they do.

A LAYER, IMAGE or CONTAINER is given by its ID, by any of its names, or by the
beginning of its ID when nothing else begins so.`,
		Example: `  # unpack a layer, put a writable one on top, and look inside
  shale import-layer --name base --file base.tar.gz
  shale create-layer --name work base
  ls $(shale mount work)`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},

		DisableFlagsInUseLine:      true,
		SuggestionsMinimumDistance: 2,
		Args: func(command *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{"which command? `shale --help` lists them", command.UseLine()}
			}
			message := fmt.Sprintf("there is no command %q", args[0])
			if near := command.SuggestionsFor(args[0]); len(near) > 0 {
				message += "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return usageError{message, command.UseLine()}
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // Args never lets it run
		PersistentPreRun: func(command *cobra.Command, _ []string) {
			p.log.SetLevel(logrus.WarnLevel)
			if p.global.debug {
				p.log.SetLevel(logrus.DebugLevel)
			}
		},
	}
	root.SetHelpTemplate(helpTemplate)
	root.SetIn(p.stdin)
	root.SetOut(p.out)
	root.SetErr(p.stderr)
	root.SetHelpCommand(helpCommand())
	root.SetFlagErrorFunc(func(command *cobra.Command, err error) error {
		return usageError{err.Error() + "; `" + command.CommandPath() + " --help` lists the flags", command.UseLine()}
	})
	p.global.register(root.PersistentFlags())
	root.AddGroup(
		&cobra.Group{ID: groupLayers, Title: "Layers:"},
		&cobra.Group{ID: groupImages, Title: "Images:"},
		&cobra.Group{ID: groupContainers, Title: "Containers:"},
		&cobra.Group{ID: groupAny, Title: "Layers, images and containers alike:"},
		&cobra.Group{ID: groupStore, Title: "The store:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, command := range commands {
			command.GroupID = group
			command.DisableFlagsInUseLine = true
			root.AddCommand(command)
		}
	}
	add(groupLayers,
		p.createLayer(), p.importLayer(), p.layers(), p.layer(), p.applyDiff(), p.applyStaged(), p.changes(), p.diff(),
		p.diffSize(),
		p.copy(), p.mount(), p.unmount(), p.mounted(), p.deleteLayer(), p.layerParentOwners())
	add(groupLayers, p.layerData().commands()...)
	add(groupImages, p.createImage(), p.images(), p.imagesByDigest(), p.image(), p.deleteImage())
	add(groupImages, p.imageData().commands()...)
	add(groupImages, p.directories("image")...)
	add(groupContainers, p.createContainer(), p.containers(), p.container(), p.deleteContainer(),
		p.containerParentOwners())
	add(groupContainers, p.containerData().commands()...)
	add(groupContainers, p.directories("container")...)
	add(groupAny, p.exists(), p.getNames(), p.addNames(), p.removeNames(), p.setNames(), p.metadata(), p.setMetadata(),
		p.delete())
	add(groupStore, p.status(), p.configuration(), p.usage(), p.check(), p.gc(), p.dedup(), p.storageLayers(),
		p.createStorageLayer(), p.shutdown(), p.wipe(), p.unshare(), p.completion(), p.docs(), p.version())
	return root
}

// helpCommand is "shale help COMMAND", for those who try that first.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "help [COMMAND]",
		Short:  "Explain a command",
		Hidden: true,
		RunE: func(command *cobra.Command, args []string) error {
			about, _, err := command.Root().Find(args)
			if err != nil {
				return usageError{err.Error(), command.UseLine()}
			}
			if root := command.Root(); about == root && len(args) > 0 {
				return root.ValidateArgs(args)
			}
			return about.Help()
		},
	}
}

// arguments checks how many arguments a command got; most < 0 means any number.
func arguments(least, most int) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usageError{"too few arguments", command.UseLine()}
		case most >= 0 && len(args) > most:
			return usageError{fmt.Sprintf("too many arguments: %s", strings.Join(args[most:], " ")), command.UseLine()}
		}
		return nil
	}
}

// jsonFlag adds --json, which nearly every command has.
func jsonFlag(command *cobra.Command) *bool {
	return command.Flags().BoolP("json", "j", false, "print JSON")
}
