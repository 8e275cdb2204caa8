package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// docs writes the manual. Man pages, docs/cli.md and --help all come from the command
// tree, so that they can't tell different stories.
func (p *program) docs() *cobra.Command {
	command := &cobra.Command{
		Use:    "docs",
		Short:  "Write the manual of this program",
		Long:   `Writes man pages, or the manual as one Markdown file, from the same source as --help.`,
		Hidden: true,
		Example: `  # what "make docs" does
  shale docs --man man --markdown docs/cli.md`,
		Args: arguments(0, 0),
	}
	man := command.Flags().String("man", "", "write man pages into the directory `DIR`")
	markdown := command.Flags().String("markdown", "", "write the manual as Markdown to `FILE`")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if *man == "" && *markdown == "" {
			return usageError("say what to write with --man or --markdown")
		}
		if *markdown != "" {
			if err := os.WriteFile(*markdown, markdownManual(command.Root()), 0o644); err != nil {
				return err
			}
		}
		if *man == "" {
			return nil
		}
		if err := os.MkdirAll(*man, 0o755); err != nil {
			return err
		}
		for _, page := range manualPages(command.Root()) {
			name := strings.ReplaceAll(page.CommandPath(), " ", "-") + ".1"
			if err := os.WriteFile(filepath.Join(*man, name), manPage(page), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	return command
}

// manualPages are the commands that have a man page: shale, its commands and those of
// "shale storage".
func manualPages(root *cobra.Command) []*cobra.Command {
	pages := []*cobra.Command{root}
	for _, command := range documented(root) {
		pages = append(append(pages, command), documented(command)...)
	}
	return pages
}

// documented lists the commands below one that people should know of, in the order of
// verbs.go.
func documented(parent *cobra.Command) []*cobra.Command {
	var shown []*cobra.Command
	for _, group := range parent.Groups() {
		for _, command := range parent.Commands() {
			if command.GroupID == group.ID && command.IsAvailableCommand() {
				shown = append(shown, command)
			}
		}
	}
	return shown
}

const manualHead = `# The command line of Shale

<!-- Written by "make docs" from cmd/shale; change the help texts there. -->

Shale speaks two grammars. The commands of its own are listed here first. Those of ` + "`containers-storage`" + `, with that
program's flags, output and exit status, are listed [at the end](#the-grammar-of-containers-storage); scripts written for
it call ` + "`shale storage`" + `, or a link of the name ` + "`containers-storage`" + `. [differences.md](differences.md) says
what is different for whoever comes from there.

Flags may stand before or after the arguments, and the global ones before or after the command.

**Output.** Lists are tables; ` + "`--format wide`" + ` shortens nothing and has more columns. With ` + "`--json`" + `, the same as
` + "`--format json`" + `, there is one JSON value on standard output: an empty list is ` + "`[]`" + `, kinds are words, and a path
that is no UTF-8 has its bytes beside it in base64. ` + "`jsonl`" + ` puts each element on a line of its own. Anything with
` + "`{{`" + ` in it is a Go template that is executed for each element; its fields are those of the records, such as
` + "`{{.ID}}`, `{{join .Names \",\"}}`, `{{json .}}`" + `. Progress is on standard error: a bar at a terminal, elsewhere a
line now and then for what takes more than a second; ` + "`--progress`" + ` chooses.

**Exit status.**

| status | meaning |
|---|---|
| 0 | all went well |
| 1 | something failed, in no way that stands below, or several things in several ways |
| 2 | the command line makes no sense |
| 3 | check, or ` + "`config --check`" + `, has found something that isn't as it should be |
| 4 | a layer, image, container, data item or whatever else was named does not exist |
| 5 | something is in use, or another process is at work on it |
| 6 | the disk or a quota is full |
| 130, 143 | interrupted, terminated; what was begun has been undone |
| 141 | the reader of standard output went away |

` + "`shale unshare COMMAND`" + ` exits as COMMAND does. Errors go to standard error as ` + "`shale: COMMAND: what," +
	" and why`" + `, and
where there is something to be done about it, the next line says what.

`

const manualPeerHead = `# The grammar of containers-storage

These are the commands of ` + "`shale storage`" + `, which are those of ` + "`containers-storage`" + ` where a link of that name leads to
Shale. They print what that program prints, and exit with 0, or with 1 when anything failed, when something asked for does
not exist, or when the command line made no sense. Their flags are listed; what they do is explained above, where the
command of the same name is.

`

func markdownManual(root *cobra.Command) []byte {
	var b bytes.Buffer
	b.WriteString(manualHead)
	b.WriteString("## Global flags\n\n```\n" + root.PersistentFlags().FlagUsages() + "```\n\n")
	for _, group := range root.Groups() {
		fmt.Fprintf(&b, "## %s\n\n", strings.TrimSuffix(group.Title, ":"))
		for _, command := range documented(root) {
			if command.GroupID == group.ID {
				markdownCommand(&b, command)
			}
		}
	}
	b.WriteString(manualPeerHead)
	for _, command := range root.Commands() {
		if command.Name() == storageVerb {
			for _, verb := range documented(command) {
				markdownPeerCommand(&b, verb)
			}
		}
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

func markdownCommand(b *bytes.Buffer, command *cobra.Command) {
	fmt.Fprintf(b, "### %s\n\n%s.\n\n", command.Name(), command.Short)
	fmt.Fprintf(b, "```\n%s\n```\n\n", command.UseLine())
	if len(command.Aliases) > 0 {
		fmt.Fprintf(b, "Also called: `%s`.\n\n", strings.Join(command.Aliases, "`, `"))
	}
	fmt.Fprintf(b, "%s\n\n", command.Long)
	if flags := command.LocalNonPersistentFlags(); flags.HasAvailableFlags() {
		fmt.Fprintf(b, "```\n%s```\n\n", flags.FlagUsages())
	}
	fmt.Fprintf(b, "```sh\n%s\n```\n\n", outdent(command.Example))
}

// markdownPeerCommand describes a command of the other grammar in short.
func markdownPeerCommand(b *bytes.Buffer, command *cobra.Command) {
	names := append([]string{command.Name()}, command.Aliases...)
	fmt.Fprintf(b, "**`%s`**: %s.\n\n", strings.Join(names, "`, `"), lowerFirst(command.Short))
	fmt.Fprintf(b, "```\n%s\n", command.UseLine())
	if flags := command.LocalNonPersistentFlags(); flags.HasAvailableFlags() {
		b.WriteString(flags.FlagUsages())
	}
	b.WriteString("```\n\n")
}

// outdent takes away the two spaces that set examples off in --help.
func outdent(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "  ")
	}
	return strings.Join(lines, "\n")
}

// manPage writes a page in the man(7) macros.
func manPage(command *cobra.Command) []byte {
	var b bytes.Buffer
	name := strings.ReplaceAll(command.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 1 \"\" Shale \"Shale Manual\"\n", roff(strings.ToUpper(name)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(lowerFirst(command.Short)))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(command.UseLine()))
	b.WriteString(".SH DESCRIPTION\n")
	manText(&b, command.Long)
	if len(command.Aliases) > 0 {
		fmt.Fprintf(&b, ".PP\nAlso called: %s.\n", roff(strings.Join(command.Aliases, ", ")))
	}
	if command.HasParent() {
		manFlags(&b, "OPTIONS", command.LocalNonPersistentFlags())
		b.WriteString(".SH GLOBAL OPTIONS\nSee\n.BR shale (1).\n")
	} else {
		manFlags(&b, "GLOBAL OPTIONS", command.PersistentFlags())
	}
	if subs := documented(command); len(subs) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range subs {
			fmt.Fprintf(&b, ".TP\n.BR %s\\-%s (1)\n%s\n", roff(name), roff(sub.Name()), roff(sub.Short))
		}
	}
	switch {
	case speaksPeer(command):
		b.WriteString(".SH EXIT STATUS\n0 for success, 1 for any failure.\n")
	case !command.HasParent():
		b.WriteString(manExitStatus)
		b.WriteString(
			".SH FILES\n.I /etc/containers/storage.conf\nand its like say where the store is; see\n.BR " +
				"containers-storage.conf (5).\n")
	}
	if command.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLE\n.EX\n%s\n.EE\n", roff(outdent(command.Example)))
	}
	if command.HasParent() {
		b.WriteString(".SH SEE ALSO\n.BR shale (1)\n")
	}
	return b.Bytes()
}

const manExitStatus = `.SH EXIT STATUS
.TP
0
All went well.
.TP
1
Something failed in no way that stands below.
.TP
2
The command line makes no sense.
.TP
3
Something isn't as it should be: check, config \-\-check.
.TP
4
What was named does not exist.
.TP
5
Something is in use, or another process is at work on it.
.TP
6
The disk or a quota is full.
.TP
130, 143
Interrupted, terminated.
`

func manFlags(b io.Writer, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(flag)
		name := "--" + flag.Name
		if flag.Shorthand != "" {
			name = "-" + flag.Shorthand + ", " + name
		}
		if value != "" {
			name += " " + value
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(name), roff(usage))
	})
}

// manText writes paragraphs that are divided by empty lines.
func manText(b io.Writer, text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			io.WriteString(b, ".PP\n")
		}
		fmt.Fprintln(b, roff(paragraph))
	}
}

// roff escapes what groff would take for markup: backslashes, hyphens that are to stay
// hyphens, and dots and quotes that begin a line.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
