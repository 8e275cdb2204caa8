package main

// helpTemplate is what --help prints, for a command and for shale itself; the
// text/template language and the functions are cobra's.
const helpTemplate = `{{.Short}}.

  {{.UseLine}}

{{.Long}}
{{if .HasExample}}
Example:
{{.Example}}
{{end}}{{if .HasParent}}{{if .HasAvailableLocalFlags}}
Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{end}}{{if .Aliases}}
Also called: {{range $i, $a := .Aliases}}{{if $i}}, {{end}}{{$a}}{{end}}
{{end}}
Global flags, such as --graph DIR, are explained by "shale --help".
{{else}}{{range $group := .Groups}}
{{.Title}}
{{range $.Commands}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}  {{rpad .Name .NamePadding}}  {{.Short}}
{{end}}{{end}}{{end}}
Global flags, before or after the command:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}

"shale COMMAND --help" tells more about a command.
{{end}}`
