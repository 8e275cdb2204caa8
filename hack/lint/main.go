// Lint looks at what the other linters don't: a comment that stands on a line of its own
// ends at column 90, everything else at column 120, where a tab is four columns.
//
//	lint [FILE.go...]
//
// Without files it looks at all that git knows. What can't be broken may be longer: a
// line with an address, a table, text that gofmt leaves as it is, a directive, and the
// inside of a string.
package main

import (
	"errors"
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"strings"
	"unicode/utf8"
)

const (
	commentColumns = 90
	codeColumns    = 120
	tab            = 4
)

func main() {
	files := os.Args[1:]
	if len(files) == 0 {
		out, err := exec.Command("git", "ls-files", "-z", "*.go").Output()
		if err != nil {
			fmt.Fprintln(os.Stderr, "lint: git ls-files:", err)
			os.Exit(1)
		}
		files = strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 })
	}
	found := false
	for _, file := range files {
		source, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not yet committed
		} else if err != nil {
			fmt.Fprintln(os.Stderr, "lint:", err)
			os.Exit(1)
		}
		for _, l := range tooLong(source) {
			found = true
			fmt.Printf("%s:%d: %d columns, more than %d\n", file, l.number, l.columns, l.most)
		}
	}
	if found {
		os.Exit(1)
	}
}

type line struct{ number, columns, most int }

// tooLong lists the lines of a Go file that are too long.
func tooLong(source []byte) (found []line) {
	lines := strings.Split(string(source), "\n")
	kinds := classify(source, len(lines))
	for i, text := range lines {
		l := line{i + 1, columns(text), codeColumns}
		switch kinds[i] {
		case inString:
			continue
		case comment:
			if mayBeLong(text) {
				continue
			}
			l.most = commentColumns
		}
		if l.columns > l.most && !strings.Contains(text, "://") {
			found = append(found, l)
		}
	}
	return found
}

// kind is what is on a line.
type kind int

const (
	code kind = iota
	comment
	inString // of several lines
)

func classify(source []byte, count int) []kind {
	kinds := make([]kind, count)
	file := token.NewFileSet().AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, scanner.ScanComments)
	last := 0 // the line on which the last token ended
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			return kinds
		}
		if tok == token.SEMICOLON && text == "\n" { // the scanner's own
			continue
		}
		first := file.Line(pos)
		end := first + strings.Count(text, "\n")
		for n := first; n <= end; n++ {
			switch {
			case tok == token.COMMENT && n > last:
				kinds[n-1] = comment
			case tok == token.STRING && end > first:
				kinds[n-1] = inString
			case tok != token.COMMENT:
				kinds[n-1] = code
			}
		}
		last = end
	}
}

// mayBeLong tells of a line of a comment that nobody can wrap: a directive, text that
// gofmt keeps as it is, a row of a table.
func mayBeLong(text string) bool {
	text = strings.TrimLeft(text, " \t")
	rest, ok := strings.CutPrefix(text, "//")
	if !ok {
		return false
	}
	return strings.HasPrefix(rest, "go:") || strings.HasPrefix(rest, "nolint:") ||
		strings.HasPrefix(rest, "\t") || strings.HasPrefix(rest, "   ") || strings.Count(rest, "|") > 1
}

func columns(text string) int {
	return utf8.RuneCountInString(text) + (tab-1)*strings.Count(text, "\t")
}
