package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// shownCommand finds calls of shale in a line of shell. What is in $(…) or in quotes ends
// there.
var shownCommand = regexp.MustCompile(`(?:^|[\s(;|&'"])shale ((?:'[^']*'|"[^"]*"|[^'";|&()#])+)`)

// shown lists the calls of shale in a text of shell commands, split into words.
func shown(text string) (calls [][]string) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	text = regexp.MustCompile(`\$\([^()]*\)`).ReplaceAllStringFunc(text, func(inner string) string {
		calls = append(calls, shown(strings.TrimSuffix(inner[2:], ")"))...)
		return "SUBSTITUTED"
	})
	for line := range strings.Lines(text) {
		for _, call := range shownCommand.FindAllStringSubmatch(strings.TrimSpace(line), -1) {
			words := regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`).FindAllString(call[1], -1)
			for i, word := range words {
				words[i] = strings.Trim(word, `'"`)
				if strings.HasPrefix(word, ">") || strings.HasPrefix(word, "2>") {
					words = words[:i]
					break
				}
			}
			calls = append(calls, words)
		}
	}
	return calls
}

// takes says what is wrong with a command line, without running it.
func takes(root *cobra.Command, words []string) error {
	if len(words) > 0 && words[0] == "help" {
		return nil
	}
	command, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	command.Flags().VisitAll(func(f *pflag.Flag) { f.Changed = false })
	if err := command.ParseFlags(rest); err != nil {
		return err
	}
	return command.ValidateArgs(command.Flags().Args())
}

// Each command that the manual, the README and the documents show is one that shale
// takes.
func TestShownCommandsAreTaken(t *testing.T) {
	count := 0
	check := func(where, text string) {
		for _, words := range shown(text) {
			count++
			if err := takes(tree(), words); err != nil {
				t.Errorf("%s: shale %s: %v", where, strings.Join(words, " "), err)
			}
		}
	}
	for _, command := range manualPages(tree()) {
		check(command.CommandPath()+" --help", command.Example)
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(page) == "cli.md" { // made of the examples above
			continue
		}
		fenced := false
		for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			line, isCode := strings.CutPrefix(line, "    ")
			line, _, _ = strings.Cut(line, "   ") // what stands beside it explains it
			if isCode || fenced {
				check(filepath.Base(page), line)
			}
		}
	}
	if count < 70 {
		t.Errorf("%d commands are shown", count)
	}
}

// The README's five lines do what they seem to.
func TestFiveLines(t *testing.T) {
	s := newStore(t)
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, lines, _ := strings.Cut(string(text), "## In five lines\n\n")
	lines, _, _ = strings.Cut(lines, "\n\n")
	bin, at := filepath.Join(s.dir, "bin"), filepath.Join(s.dir, "at")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nexec " + self + " " + strings.Join(s.flags, " ") + ` "$@"` + "\n"
	for path, content := range map[string]string{filepath.Join(bin, "shale"): script,
		filepath.Join(at, "base.tar.zst"): string(tarOf(t, map[string]string{"hello": "x"}))} {
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "sh", "-euc", lines)
	command.Dir = at
	command.Env = append(os.Environ(), asShale+"=1", "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "\nhello\n") {
		t.Errorf("%v: %s", err, out)
	}
	if info, err := os.Stat(filepath.Join(at, "work.tar")); err != nil || info.Size() == 0 {
		t.Errorf("the exported layer: %v", err)
	}
	if got := s.must("mounted", "work"); got != "" {
		t.Error("it is mounted still")
	}
}
