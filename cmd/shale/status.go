package main

import (
	"context"
	"fmt"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/store"
	"github.com/spf13/cobra"
)

func (p *program) status() *cobra.Command {
	command := &cobra.Command{
		Use:   "status",
		Short: "Show where the store is and what its driver can do",
		Long:  `Says on stderr where the store is, which driver it uses, and what that can do here.`,
		Example: `  # for programs
  shale status --json`,
		Args: arguments(0, 0),
	}
	asJSON := jsonFlag(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		facts, err := s.Status(ctx)
		if err != nil {
			return err
		}
		driver, err := s.DriverName(ctx)
		if err != nil {
			return err
		}
		return p.printFacts(*asJSON, append([]drivers.Property{
			{Name: "Root", Value: s.GraphRoot()},
			{Name: "Run Root", Value: s.RunRoot()},
			{Name: "Driver Name", Value: driver},
			{Name: "Driver Options", Value: fmt.Sprint(p.settings.DriverOptions())},
		}, facts...))
	})
	return command
}

// printFacts prints on stderr, as containers-storage does, or pairs in JSON on standard
// output.
func (p *program) printFacts(asJSON bool, facts []drivers.Property) error {
	if asJSON {
		pairs := make([][2]string, 0, len(facts))
		for _, fact := range facts {
			pairs = append(pairs, [2]string{fact.Name, fact.Value})
		}
		return p.printJSON(pairs)
	}
	for _, fact := range facts {
		p.sayf("%s: %s\n", fact.Name, fact.Value)
	}
	return nil
}

func (p *program) version() *cobra.Command {
	command := &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Long:  `Says on stderr which version of Shale this is, and which one of Go compiled it.`,
		Example: `  # for programs
  shale version --json`,
		Args: arguments(0, 0),
	}
	asJSON := jsonFlag(command)
	command.RunE = func(*cobra.Command, []string) error {
		return p.printFacts(*asJSON, store.Version())
	}
	return command
}
