package main

import (
	"fmt"
	"slices"
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
	progress   progressMode
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

// rootCommand builds the command tree of the grammar that shale was called in.
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
  m=$(shale mount work) && ls "$m"`,
		Version:           buildVersion(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},

		DisableFlagsInUseLine: true,
		Args:                  noSuchCommand,
		RunE:                  func(*cobra.Command, []string) error { return nil }, // Args never lets it run
		PersistentPreRun: func(command *cobra.Command, _ []string) {
			p.log.SetLevel(logrus.WarnLevel)
			if p.global.debug {
				p.log.SetLevel(logrus.DebugLevel)
			}
		},
	}
	p.global.register(root.PersistentFlags())
	if p.peer {
		root.Use = strings.Replace(root.Use, "shale", peerName, 1)
		root.Short, root.Long, root.Example, root.Version = peerShort, peerLong, peerExample, ""
	} else {
		root.PersistentFlags().Var(&p.global.progress, "progress",
			"show on stderr how far long work is: `HOW` is auto, bar, plain, json or none")
	}
	root.SetHelpTemplate(helpTemplate)
	root.SetVersionTemplate("{{.Name}} version {{.Version}}\n")
	root.SetIn(p.stdin)
	root.SetOut(p.out)
	root.SetErr(p.stderr)
	root.SetHelpCommand(helpCommand())
	root.SetFlagErrorFunc(func(command *cobra.Command, err error) error {
		return usageErrorf("%s; `%s --help` lists the flags", err, command.CommandPath())
	})
	p.addVerbs(root, root.Name())
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
				return usageError(err.Error())
			}
			if len(args) > 0 && (about == command.Root() || about.Name() == storageVerb && len(args) > 1) {
				return about.ValidateArgs(args[len(args)-1:])
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
			return usageError("too few arguments")
		case most >= 0 && len(args) > most:
			return usageErrorf("too many arguments: %s", strings.Join(args[most:], " "))
		}
		return nil
	}
}

// exclusive lets one flag of several be set.
func exclusive(command *cobra.Command, names ...string) {
	command.PreRunE = func(command *cobra.Command, _ []string) error {
		var set []string
		for _, name := range names {
			if command.Flags().Changed(name) {
				set = append(set, "--"+name)
			}
		}
		if len(set) > 1 {
			return usageErrorf("%s: only one of them can be", strings.Join(set, " and "))
		}
		return nil
	}
}

// noSuchCommand is what is said to a word that is no command.
func noSuchCommand(command *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageErrorf("which command? `%s --help` lists them", command.CommandPath())
	}
	message := fmt.Sprintf("there is no command %q", args[0])
	if answer, known := habits[args[0]]; known && !command.HasParent() && command.Name() != peerName {
		return usageErrorf("%s: %s", message, answer)
	}
	command.SuggestionsMinimumDistance = 2
	near := slices.DeleteFunc(command.SuggestionsFor(args[0]), func(name string) bool { return deletes[name] })
	if len(near) > 0 {
		message += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError(message)
}

// habits are words that people type who come from other programs, and what answers here.
var habits = map[string]string{
	"ls":      "`shale layers`, `shale images` and `shale containers` list what there is",
	"list":    "`shale layers`, `shale images` and `shale containers` list what there is",
	"ps":      "`shale containers` lists containers",
	"du":      "`shale usage` shows what takes how much space",
	"df":      "`shale usage` shows what takes how much space",
	"dive":    "`shale layers --tree` shows what stands on what, `shale changes LAYER` what a layer changes",
	"tree":    "`shale layers --tree` draws the layers",
	"inspect": "`shale layer`, `shale image` and `shale container` show one of them",
	"info":    "`shale status` shows where the store is and what its driver can do",
	"fsck":    "`shale check` looks for damage",
	"copy":    "`shale cp` copies files into a layer, or out of one",
	"rm":      "`shale delete-container`, `shale delete-image` and `shale delete-layer` delete one of them",
}

// deletes are the commands that are suggested to nobody who mistypes.
var deletes = map[string]bool{"delete": true, "delete-layer": true, "delete-image": true, "delete-container": true,
	"gc": true, "wipe": true, "remove-names": true, "set-names": true, "shutdown": true}
