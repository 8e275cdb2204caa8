package main

import (
	"slices"

	"github.com/spf13/cobra"
)

// storageVerb is the word before a command in the grammar of containers-storage.
const storageVerb = "storage"

const (
	peerShort = "The commands of containers-storage, on the same store"
	peerLong  = `Takes the commands and flags of containers-storage, prints what that prints, and exits
with 0 or 1 as that does, so that scripts written for it run unchanged. It is called as
"shale storage", or by a link of the name containers-storage to shale.

Nothing is deleted by "check --repair" here either that is mounted, named, or used by a
container, and no file outside the store is touched.`
	peerExample = `  # what a script for containers-storage does
  shale storage layers --json | jq -r '.[].id'

  # let it find Shale by the name it knows
  ln -s "$(command -v shale)" /usr/local/bin/containers-storage`
)

// storage is the other grammar as a command of ours. Its own commands are built for those
// who ask for them.
func (p *program) storage() *cobra.Command {
	command := &cobra.Command{
		Use:     storageVerb + " COMMAND [flags] [arguments]",
		Short:   "Speak the grammar of containers-storage",
		Long:    peerLong,
		Example: peerExample,
		Args:    noSuchCommand,
		RunE:    func(*cobra.Command, []string) error { return nil }, // Args never lets it run
	}
	if slices.Contains(p.args, storageVerb) || p.wantsAll() {
		other := *p
		other.peer = true
		other.addVerbs(command, "shale "+storageVerb)
	}
	return command
}
