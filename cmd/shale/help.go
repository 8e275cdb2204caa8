package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// helpTemplate is what --help prints, for a command and for shale itself; the
// text/template language and the functions are cobra's.
const helpTemplate = `{{.Short}}.

  {{.UseLine}}

{{.Long}}
{{if .HasExample}}
Example:
{{.Example}}
{{end}}{{range $group := .Groups}}
{{.Title}}
{{range $.Commands}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}  {{rpad .Name .NamePadding}}  {{.Short}}
{{end}}{{end}}{{end}}{{if .HasParent}}{{if .HasAvailableLocalFlags}}
Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{end}}{{if .Aliases}}
Also called: {{range $i, $a := .Aliases}}{{if $i}}, {{end}}{{$a}}{{end}}
{{end}}
Global flags, such as --graph DIR, are explained by "{{.Root.Name}} --help".
{{else}}
Global flags, before or after the command:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}

"{{.Name}} COMMAND --help" tells more about a command.
{{end}}`

// speakAs writes the help texts of a command, which call the program shale, for a grammar
// whose commands begin in another way.
func speakAs(command *cobra.Command, path string) {
	command.Long = strings.ReplaceAll(command.Long, `"shale `, `"`+path+` `)
	command.Example = strings.ReplaceAll(command.Example, "shale ", path+" ")
}

// either is a text of our own grammar or of that of containers-storage, whichever is
// built.
func (p *program) either(ours, theirs string) string {
	if p.peer {
		return theirs
	}
	return ours
}
