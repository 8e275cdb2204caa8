package main

import (
	"cmp"
	"runtime/debug"
	"strings"

	"github.com/shalestore/shale/drivers"
	"github.com/spf13/cobra"
)

func (p *program) version() *cobra.Command {
	command := &cobra.Command{
		Use:   "version [flags]",
		Short: "Show the version",
		Long:  `Says which version of Shale this is, and which one of Go compiled it.`,
		Example: `  # for programs
  shale version --json`,
		Args: arguments(0, 0),
	}
	form := p.formatFlags(command)
	command.RunE = func(*cobra.Command, []string) error {
		info, _ := debug.ReadBuildInfo()
		view := struct {
			Version string `json:"version"`
			Go      string `json:"go"`
		}{buildVersion(), cmp.Or(info, &debug.BuildInfo{}).GoVersion}
		return p.printFacts(form, view, []drivers.Property{{Name: "Version", Value: view.Version},
			{Name: "Go", Value: view.Go}})
	}
	return command
}

// workingCopy is the commit that "make build" builds, for the linker to set: the go
// command tells none of a workspace.
var workingCopy string

// buildVersion is the version of the module that was built, as the go command knows it.
// For a working copy it is "(devel)" and the commit.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	if version := info.Main.Version; version != "" && version != "(devel)" {
		return version
	}
	return strings.TrimSpace("(devel) " + workingCopy)
}
