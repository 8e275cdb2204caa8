package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// table lines up columns for a person. It keeps its rows until flush. A wide one has the
// columns whose head begins with "+" as well, and what the others shorten in full.
type table struct {
	out   io.Writer
	wide  bool
	rows  [][]string
	right map[int]bool // columns of numbers
	cut   int          // columns of every row that are shown
}

func (p *program) newTable(wide bool, heads ...string) *table {
	t := &table{out: p.out, wide: wide, right: map[int]bool{}, cut: len(heads)}
	for c, head := range heads {
		if strings.HasPrefix(head, "+") {
			heads[c] = head[1:]
			if !wide {
				t.cut = min(t.cut, c)
			}
		}
	}
	t.row(heads...)
	return t
}

// numbers has the cells of these columns end at the same place, rather than begin there.
func (t *table) numbers(columns ...int) {
	for _, c := range columns {
		t.right[c] = true
	}
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells[:t.cut]) }

// id is an ID, as much of it as the table has room for.
func (t *table) id(id string) string {
	if t.wide {
		return id
	}
	return shortID(id)
}

// names are some names from anywhere.
func (t *table) names(names []string) string {
	quoted := make([]string, 0, len(names))
	for _, name := range names {
		quoted = append(quoted, printable(name))
	}
	return t.list(quoted)
}

// list is the first of some texts and how many more there are, or all of them.
func (t *table) list(all []string) string {
	switch {
	case len(all) == 0:
		return ""
	case t.wide || len(all) == 1:
		return strings.Join(all, ",")
	}
	return fmt.Sprintf("%s +%d", all[0], len(all)-1)
}

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

// firstName is the first of some names, or "".
func firstName(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return printable(names[0])
}

func nameOrID(names []string, id string) string {
	return cmp.Or(firstName(names), shortID(id))
}

// printable keeps names, which come from anywhere, from moving the cursor or the columns.
func printable(name string) string {
	quoted := fmt.Sprintf("%q", name)
	if inner := quoted[1 : len(quoted)-1]; inner != name {
		return quoted
	}
	return name
}

// said is a name as a line of output may hold it. containers-storage prints it as it is.
func (p *program) said(name string) string {
	if p.peer {
		return name
	}
	return printable(name)
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
