package main

import (
	"encoding/json"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
)

// format is what --format and --json ask for. On standard output is one JSON value, then,
// or with jsonl one on each line; an empty list is [], kinds are words, and a path that
// is no UTF-8 stands beside its bytes in base64.
type format struct {
	word     string // table, wide, json or jsonl; "" when template is set
	template *template.Template
	given    bool
}

const formatWords = "table, wide, json, jsonl, or a Go template such as {{.ID}}"

func (f *format) Set(text string) (err error) {
	f.given = true
	switch text {
	case "table", "wide", "json", "jsonl":
		f.word, f.template = text, nil
		return nil
	}
	if !strings.Contains(text, "{{") {
		return usageError("there are " + formatWords)
	}
	f.word = ""
	f.template, err = template.New("--format").Funcs(template.FuncMap{"json": func(v any) (string, error) {
		text, err := json.Marshal(v)
		return string(text), err
	}, "join": strings.Join}).Parse(text + "\n")
	return err
}

func (f *format) String() string { return f.word }
func (f *format) Type() string   { return "FORMAT" }

// json reports whether what is printed is for programs.
func (f *format) json() bool { return f.word == "json" || f.word == "jsonl" }

// jsonWord is --json: the short way to say --format json.
type jsonWord struct{ *format }

func (j jsonWord) Set(text string) error {
	if text == "false" {
		return j.format.Set("table")
	}
	return j.format.Set("json")
}
func (j jsonWord) String() string { return "" }
func (j jsonWord) Type() string   { return "bool" }

// formatFlags adds --format and --json; containers-storage has only the latter.
func (p *program) formatFlags(command *cobra.Command) *format {
	f := &format{word: "table"}
	usage := "print JSON"
	if !p.peer {
		command.Flags().Var(f, "format", "print as `FORMAT`: "+formatWords)
		usage = "the same as --format json"
	}
	command.Flags().VarPF(jsonWord{f}, "json", "j", usage).NoOptDefVal = "true"
	return f
}

// show prints a list in our own grammar. text prints it for people, with all there is to
// tell when wide is set.
func show[R any](p *program, f *format, rows []R, text func(wide bool)) error {
	switch {
	case f.word == "json":
		return p.printJSON(emptyWhenNil(rows))
	case f.word == "" || f.word == "jsonl":
		for _, row := range rows {
			if err := showOne(p, f, row, nil); err != nil {
				return err
			}
		}
	default:
		text(f.word == "wide")
	}
	return nil
}

// showOne prints one thing in our own grammar.
func showOne(p *program, f *format, value any, text func(wide bool)) error {
	switch {
	case f.json():
		return p.printJSON(value)
	case f.template != nil:
		if err := f.template.Execute(p.out, value); err != nil {
			return usageErrorf("%v", err)
		}
	default:
		text(f.word == "wide")
	}
	return nil
}

// emptyWhenNil makes an empty list print as [].
func emptyWhenNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// nullWhenEmpty makes an empty list print as null, as the Go programs that read
// containers-storage's output expect.
func nullWhenEmpty[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}
