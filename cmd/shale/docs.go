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
			return usageError{"say what to write with --man or --markdown", command.UseLine()}
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
		pages := append([]*cobra.Command{command.Root()}, documented(command.Root())...)
		for _, page := range pages {
			name := strings.ReplaceAll(page.CommandPath(), " ", "-") + ".1"
			if err := os.WriteFile(filepath.Join(*man, name), manPage(page), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	return command
}

// documented lists the commands that people should know of, in the order of root.go.
func documented(root *cobra.Command) []*cobra.Command {
	var shown []*cobra.Command
	for _, group := range root.Groups() {
		for _, command := range root.Commands() {
			if command.GroupID == group.ID && command.IsAvailableCommand() {
				shown = append(shown, command)
			}
		}
	}
	return shown
}

const manualHead = `# The command line of Shale

<!-- Written by "make docs" from cmd/shale; change the help texts there. -->

The commands, their flags, what they print into a pipe and how they exit are those of ` + "`containers-storage`" + `, so that scripts
written for it run unchanged. At a terminal, lists are tables for people, and long work shows how far it is.

Flags may stand before or after the arguments, and the global ones before or after the command.

Exit status: 0 when all went well; 1 when anything failed, when something asked for does not exist, or when the command line made no sense;
130 and 143 after an interrupt or a termination, when what was begun has been undone; 141 when the reader of standard output went away.
` + "`shale unshare COMMAND`" + ` exits as COMMAND does. Errors go to standard error as ` + "`shale: COMMAND: what, and why`" + `, and where
there is something to be done about it, the next line says what.

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
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range documented(command) {
			fmt.Fprintf(&b, ".TP\n.BR shale-%s (1)\n%s\n", roff(sub.Name()), roff(sub.Short))
		}
		b.WriteString(
			".SH EXIT STATUS\n0 for success, 1 for any failure, 130 after an interrupt, 143 after a termination.\n")
		b.WriteString(
			".SH FILES\n.I /etc/containers/storage.conf\nand its like say where the store is; see\n.BR containers-storage.conf (5).\n")
	}
	if command.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLE\n.EX\n%s\n.EE\n", roff(outdent(command.Example)))
	}
	if command.HasParent() {
		b.WriteString(".SH SEE ALSO\n.BR shale (1)\n")
	}
	return b.Bytes()
}

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
