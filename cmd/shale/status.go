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
		Use:   "status [flags]",
		Short: "Show where the store is and what its driver can do",
		Long:  `Says where the store is, which driver it uses, and what that can do here.`,
		Example: `  # for programs
  shale status --json`,
		Args: arguments(0, 0),
	}
	form := p.formatFlags(command)
	command.RunE = p.withStore(func(ctx context.Context, s *store.Store, _ []string) error {
		driver, facts, err := s.Status(ctx)
		if err != nil {
			return err
		}
		view := statusView{Root: s.Config().GraphRoot, RunRoot: s.Config().RunRoot, Driver: driver,
			Options: emptyWhenNil(p.settings.DriverOptions()), Properties: map[string]string{}}
		for _, fact := range facts {
			view.Properties[fact.Name] = fact.Value
		}
		return p.printFacts(form, view, append([]drivers.Property{
			{Name: "Root", Value: s.Config().GraphRoot},
			{Name: "Run Root", Value: s.Config().RunRoot},
			{Name: "Driver Name", Value: driver},
			{Name: "Driver Options", Value: fmt.Sprint(p.settings.DriverOptions())},
		}, facts...))
	})
	return command
}

type statusView struct {
	Root       string            `json:"root"`
	RunRoot    string            `json:"run-root"`
	Driver     string            `json:"driver"`
	Options    []string          `json:"driver-options"`
	Properties map[string]string `json:"properties"` // what the driver can do, and is told by the kernel
}

// printFacts prints one fact on a line. containers-storage does so on stderr; its JSON is
// a list of pairs.
func (p *program) printFacts(form *format, view any, facts []drivers.Property) error {
	if p.peer && form.json() {
		pairs := make([][2]string, 0, len(facts))
		for _, fact := range facts {
			pairs = append(pairs, [2]string{fact.Name, fact.Value})
		}
		return p.printJSON(pairs)
	}
	say := p.printf
	if p.peer {
		say = p.sayf
	}
	return showOne(p, form, view, func(bool) {
		for _, fact := range facts {
			say("%s: %s\n", fact.Name, fact.Value)
		}
	})
}
