package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// table lines up columns for a person at a terminal.
type table struct{ w *tabwriter.Writer }

func (p *program) newTable(heads ...string) table {
	t := table{tabwriter.NewWriter(p.out, 0, 8, 3, ' ', 0)}
	t.row(heads...)
	return t
}

func (t table) row(cells ...string) {
	fmt.Fprintln(t.w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}
func (t table) flush() { t.w.Flush() }

// shortID is as much of an ID as tells it apart for a person, and as any command takes.
func shortID(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

// firstOf is the first of some names, and how many more there are.
func firstOf(names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return printable(names[0])
	}
	return fmt.Sprintf("%s +%d", printable(names[0]), len(names)-1)
}

func nameOrID(names []string, id string) string {
	if len(names) > 0 {
		return printable(names[0])
	}
	return shortID(id)
}

// printable keeps names, which come from anywhere, from moving the cursor or the columns.
func printable(name string) string {
	quoted := fmt.Sprintf("%q", name)
	if inner := quoted[1 : len(quoted)-1]; inner != name {
		return quoted
	}
	return name
}

// ago says how long ago something was, in one unit.
func ago(then time.Time) string {
	if then.IsZero() {
		return ""
	}
	elapsed := time.Since(then)
	switch {
	case elapsed < 0:
		return then.Format(time.DateTime)
	case elapsed < time.Minute:
		return fmt.Sprintf("%d s ago", int(elapsed.Seconds()))
	case elapsed < time.Hour:
		return fmt.Sprintf("%d min ago", int(elapsed.Minutes()))
	case elapsed < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(elapsed.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(elapsed.Hours()/24))
}
