package main

import (
	"fmt"
	"strings"

	"github.com/shalestore/shale/config/storageconf"
	"github.com/spf13/cobra"
)

func (p *program) configuration() *cobra.Command {
	command := &cobra.Command{
		Use:   "config [flags] [FILE]",
		Short: "Show the settings",
		Long: `Shows every setting and where it was made: which line of which file, which variable of
the environment, which flag, or by default. FILE is read instead of the storage.conf
files that are searched otherwise.`,
		Example: `  # is this file right?
  shale config --check ./storage.conf

  # who says where the store is?
  shale config | grep graphroot`,
		Args: arguments(0, 1),
	}
	if p.peer {
		return p.peerConfiguration(command)
	}
	check := command.Flags().Bool("check", false,
		"print nothing, and exit with status 3 on a key that means nothing to Shale")
	form := p.formatFlags(command)
	exclusive(command, "format", "check", "json")
	command.RunE = func(command *cobra.Command, args []string) error {
		settings, err := p.settingsOf(command, args, *check)
		if err != nil && *check {
			return findings{err}
		}
		if err != nil || *check {
			return err
		}
		var views []settingView
		for _, setting := range settings.List() {
			views = append(views, settingView{setting.Key, setting.Value, setting.Origin.String()})
		}
		return show(p, form, views, func(wide bool) {
			t := p.newTable(wide, "SETTING", "VALUE", "FROM")
			for _, setting := range views {
				t.row(setting.Key, setting.Value, setting.From)
			}
			t.flush()
		})
	}
	return command
}

type settingView struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	From  string `json:"from"` // file and line, variable, flag, or "default"
}

// peerConfiguration prints the settings as containers-storage does: in JSON, whoever
// reads.
func (p *program) peerConfiguration(command *cobra.Command) *cobra.Command {
	command.Long = `Shows the settings in JSON. FILE is read instead of the storage.conf files that are
searched otherwise.`
	command.Example = `  # what a file comes to
  shale config ./storage.conf`
	command.RunE = func(command *cobra.Command, args []string) error {
		settings, err := p.settingsOf(command, args, false)
		if err != nil {
			return err
		}
		return p.printJSON(peerOptions(settings))
	}
	return command
}

// settingsOf reads the settings that the flags and the one argument describe, and says on
// stderr what in them has no effect.
func (p *program) settingsOf(command *cobra.Command, args []string, strict bool) (storageconf.Settings, error) {
	overrides := p.overrides(command.Flags().Changed)
	if len(args) > 0 {
		overrides.File = args[0]
	}
	overrides.Strict = strict
	settings, err := p.loadConfig(overrides)
	for _, warning := range settings.Warnings {
		p.log.Warn(warning)
	}
	return settings, err
}

// loadConfig reads the settings. What in them has no effect is said by "config" alone,
// since a host's file is seldom the user's.
func (p *program) loadConfig(overrides storageconf.Overrides) (storageconf.Settings, error) {
	settings, err := storageconf.Load(overrides)
	if err != nil {
		return settings, fmt.Errorf("configuration: %w", err)
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

// storeOptions is the configuration as containers-storage's "config" prints it.
type storeOptions struct {
	RunRoot         string            `json:"runroot,omitempty"`
	GraphRoot       string            `json:"root,omitempty"`
	ImageStore      string            `json:"imagestore,omitempty"`
	Driver          string            `json:"driver,omitempty"`
	DriverPriority  []string          `json:"driver-priority,omitempty"`
	DriverOptions   []string          `json:"driver-options,omitempty"`
	RootAutoNsUser  string            `json:"root_auto_ns_user,omitempty"`
	AutoNsMinSize   uint32            `json:"auto_userns_min_size,omitempty"`
	AutoNsMaxSize   uint32            `json:"auto_userns_max_size,omitempty"`
	PullOptions     map[string]string `json:"PullOptions"`
	DisableVolatile bool              `json:"disable-volatile,omitempty"`
	TransientStore  bool              `json:"transient_store,omitempty"`
}

func peerOptions(settings storageconf.Settings) storeOptions {
	options := storeOptions{
		RunRoot:         settings.RunRoot,
		GraphRoot:       settings.GraphRoot,
		ImageStore:      settings.ImageStore,
		Driver:          settings.Driver,
		DriverPriority:  settings.DriverPriority,
		DriverOptions:   settings.DriverOptions(),
		RootAutoNsUser:  settings.AutoUserns.User,
		DisableVolatile: settings.DisableVolatile,
		TransientStore:  settings.TransientStore,
	}
	set := settings.Origins
	if _, isSet := set["storage.options.auto-userns-min-size"]; isSet {
		options.AutoNsMinSize = settings.AutoUserns.MinSize
	}
	if _, isSet := set["storage.options.auto-userns-max-size"]; isSet {
		options.AutoNsMaxSize = settings.AutoUserns.MaxSize
	}
	const pull = "storage.options.pull_options."
	for _, setting := range settings.List() {
		if _, isSet := set[setting.Key]; isSet && strings.HasPrefix(setting.Key, pull) {
			if options.PullOptions == nil {
				options.PullOptions = map[string]string{}
			}
			options.PullOptions[strings.TrimPrefix(setting.Key, pull)] = setting.Value
		}
	}
	return options
}
