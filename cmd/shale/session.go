package main

import (
	"context"
	"errors"
	"strings"

	"github.com/shalestore/shale/cmd/internal/urgent"
	"github.com/shalestore/shale/config/storageconf"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

// withStore makes a command's work of a function that needs the store: it enters a user
// namespace first where that is needed, opens the store, and closes it after. What it
// deletes is out of the store at once; that its files are gone is waited for as long as
// nobody interrupts.
func (p *program) withStore(work func(ctx context.Context, s *store.Store, args []string) error) func(*cobra.Command,
	[]string) error {
	return func(command *cobra.Command, args []string) (err error) {
		if done, err := p.reenter(command); done || err != nil {
			return err
		}
		s, err := p.openStore(command)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Wait(command.Context()), s.Close()) }()
		return work(command.Context(), s, args)
	}
}

// openStore opens the store that the global flags, the environment and storage.conf
// describe.
func (p *program) openStore(command *cobra.Command) (*store.Store, error) {
	settings, err := p.loadConfig(p.overrides(command.Flags().Changed))
	if err != nil {
		return nil, err
	}
	p.log.Debugf("Root: %s", settings.GraphRoot)
	p.log.Debugf("Run Root: %s", settings.RunRoot)
	p.log.Debugf("Driver Name: %s", settings.Driver)
	p.log.Debugf("Driver Options: %s", settings.DriverOptions())
	settings.Overlay.StartMountProgram = urgent.Start
	p.settings = settings
	return store.Open(command.Context(), settings.Config)
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
