package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// table lines up columns for a person at a terminal. It keeps its rows until flush.
type table struct {
	out   io.Writer
	rows  [][]string
	right map[int]bool // columns of numbers
}

func (p *program) newTable(heads ...string) *table {
	return &table{out: p.out, rows: [][]string{heads}, right: map[int]bool{}}
}

// numbers has the cells of these columns end at the same place, rather than begin there.
func (t *table) numbers(columns ...int) {
	for _, c := range columns {
		t.right[c] = true
	}
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) flush() {
	widths := map[int]int{}
	for _, cells := range t.rows {
		for c, cell := range cells {
			widths[c] = max(widths[c], utf8.RuneCountInString(cell))
		}
	}
	for _, cells := range t.rows {
		var line strings.Builder
		for c, cell := range cells {
			pad := strings.Repeat(" ", widths[c]-utf8.RuneCountInString(cell))
			if c > 0 {
				line.WriteString("   ")
			}
			if t.right[c] {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
		}
		fmt.Fprintln(t.out, strings.TrimRight(line.String(), " "))
	}
	t.rows = nil
}

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
