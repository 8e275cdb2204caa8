package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// The tables of performance.md stand between such lines, and nothing else does.
const (
	beginMark = "<!-- begin: %s; written by make bench -->\n"
	endMark   = "<!-- end: %s -->\n"
)

// report writes the numbers, pictures of them and the tables of performance.md into a
// directory.
func (rec *record) report(dir string) error {
	if err := rec.write(filepath.Join(dir, recordFile)); err != nil {
		return err
	}
	r := rec.results()
	if err := r.draw(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, "performance.md")
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var goals, table, cpu bytes.Buffer
	r.printGoals(&goals)
	r.printMarkdown(&table)
	r.printCPU(&cpu)
	for _, part := range []struct{ name, content string }{
		{"setting", rec.setting()}, {"goals", goals.String()}, {"table", table.String()}, {"processor", cpu.String()},
		{"pictures", pictures(dir)},
	} {
		if page, err = replaceBetween(page, part.name, part.content); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return os.WriteFile(path, page, 0o644)
}

// pictures shows those that are there.
func pictures(dir string) string {
	var b strings.Builder
	for _, p := range []struct{ file, about string }{
		{"apply.svg", "Applying a layer"}, {"cycle.svg", "Cost against the size of the store"},
		{"depth.svg", "Mount time against depth"},
	} {
		if _, err := os.Stat(filepath.Join(dir, p.file)); err == nil {
			fmt.Fprintf(&b, "![%s](%s)\n", p.about, p.file)
		}
	}
	return b.String()
}

// replaceBetween puts new content between the marks of a name.
func replaceBetween(page []byte, name, content string) ([]byte, error) {
	begin, end := fmt.Appendf(nil, beginMark, name), fmt.Appendf(nil, endMark, name)
	before, rest, ok := bytes.Cut(page, begin)
	_, after, found := bytes.Cut(rest, end)
	if !ok || !found {
		return nil, fmt.Errorf("no lines %q and %q", bytes.TrimSpace(begin), bytes.TrimSpace(end))
	}
	return bytes.Join([][]byte{before, begin, []byte(content), end, after}, nil), nil
}

// processor is what the kernel calls it.
func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// printMarkdown writes the table of print for a page.
func (r *results) printMarkdown(w *bytes.Buffer) {
	fmt.Fprintf(w, "| | shale | %s | peak MB |\n|---|--:|%s--:|\n", strings.Join(rivals, " | "),
		strings.Repeat("--:|", len(rivals)))
	for _, row := range r.rows {
		fmt.Fprintf(w, "| %s | %s |", row.Name, duration(row.median("shale")))
		for _, name := range rivals {
			fmt.Fprintf(w, " %s |", multiple(row.ratio(name)))
		}
		if kib := row.Memory["shale"]; kib > 0 {
			fmt.Fprintf(w, " %d", kib>>10)
		}
		fmt.Fprintln(w, " |")
	}
}

// printCPU writes the processor time of what takes long. It says less than the time, and
// is nearly the same on a busy machine.
func (r *results) printCPU(w *bytes.Buffer) {
	fmt.Fprintf(w, "| | shale | %s |\n|---|--:|%s\n", strings.Join(rivals, " | "), strings.Repeat("--:|", len(rivals)))
	for _, row := range r.rows {
		ours := median(row.CPU["shale"])
		if !(ours > 0.1) {
			continue
		}
		fmt.Fprintf(w, "| %s | %.2f s |", row.Name, ours)
		for _, name := range rivals {
			fmt.Fprintf(w, " %s |", multiple(median(row.CPU[name])/ours))
		}
		fmt.Fprintln(w)
	}
}
