package main

import (
	"fmt"

	"github.com/shalestore/shale/config/storageconf"
	"github.com/spf13/cobra"
)

func (p *program) configuration() *cobra.Command {
	command := &cobra.Command{
		Use:   "config [flags] [FILE]",
		Short: "Show the settings",
		Long: `Shows every setting and where it was made: which line of which file, which variable of
the environment, which flag, or by default. FILE is read instead of the storage.conf
files that are searched otherwise.

Into a pipe it prints the JSON that containers-storage prints; --origins and --json
choose one of the two wherever it goes.`,
		Example: `  # is this file right?
  shale config --check ./storage.conf

  # who says where the store is?
  shale config --origins | grep graphroot`,
		Args: arguments(0, 1),
	}
	origins := command.Flags().Bool("origins", false, "print a table of settings and where they were made")
	check := command.Flags().Bool("check", false, "print nothing, and fail on a key that means nothing to Shale")
	asJSON := jsonFlag(command)
	command.MarkFlagsMutuallyExclusive("origins", "check", "json")
	command.RunE = func(command *cobra.Command, args []string) error {
		overrides := p.overrides(command.Flags().Changed)
		if len(args) > 0 {
			overrides.File = args[0]
		}
		overrides.Strict = *check
		settings, err := p.loadConfig(overrides)
		if err != nil || *check {
			return err
		}
		if *asJSON || !*origins && !p.interactive() {
			return p.printJSON(peerOptions(settings))
		}
		t := p.newTable("SETTING", "VALUE", "FROM")
		for _, setting := range settings.List() {
			t.row(setting.Key, setting.Value, setting.Origin.String())
		}
		t.flush()
		return nil
	}
	return command
}

// loadConfig reads the settings, and says on stderr what in them has no effect.
func (p *program) loadConfig(overrides storageconf.Overrides) (storageconf.Settings, error) {
	settings, err := storageconf.Load(overrides)
	if err != nil {
		return settings, fmt.Errorf("configuration: %w", err)
	}
	for _, warning := range settings.Warnings {
		p.log.Warn(warning)
	}
	return settings, nil
}

// overrides is what the global flags say, for config to put on top of the files.
func (p *program) overrides(changed func(flag string) bool) storageconf.Overrides {
	overrides := storageconf.Overrides{
		GraphRoot:  p.global.graphRoot,
		RunRoot:    p.global.runRoot,
		ImageStore: p.global.imageStore,
		Driver:     p.global.driver,
		Options:    p.global.options,
	}
	if changed("transient-store") {
		overrides.TransientStore = &p.global.transient
	}
	return overrides
}
