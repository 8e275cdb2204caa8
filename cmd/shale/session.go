package main

import (
	"context"
	"errors"
	"io/fs"

	"github.com/shalestore/shale/cmd/internal/urgent"
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
		if p.settings.Existing { // what isn't there is said before anything else
			_, err = s.Roots(command.Context())
		}
		if err == nil {
			err = work(command.Context(), s, args)
		}
		if errors.Is(err, fs.ErrPermission) {
			if where := p.settings.CheckRoots(); where != nil {
				err = advised{err, where.Error()}
			}
		}
		return err
	}
}

// look is store.View for a function with a result.
func look[T any](ctx context.Context, s *store.Store, find func(*store.ReadTx) (T, error)) (found T, err error) {
	err = s.View(ctx, func(tx *store.ReadTx) error {
		found, err = find(tx)
		return err
	})
	return found, err
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
	// A user whose own store is still to come may look at what additional ones hold.
	settings.Existing = !speaksPeer(command) && !p.peer && !makes[command.Name()] &&
		(p.global.graphRoot != "" || len(settings.AdditionalImageStores) == 0)
	p.settings = settings
	return store.Open(command.Context(), settings.Config)
}
