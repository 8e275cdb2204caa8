package shale_test

import (
	"encoding/json"
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// required is what the library's go.mod asks for by name. Its users get all of it into
// their module graph.
var required = []string{
	"github.com/klauspost/compress",
	"github.com/klauspost/pgzip",
	"github.com/moby/sys/mountinfo",
	"github.com/opencontainers/go-digest",
	"github.com/opencontainers/selinux",
	"github.com/pelletier/go-toml/v2",
	"github.com/ulikunitz/xz",
	"github.com/vbatts/tar-split", // for tests alone
	"golang.org/x/sys",
}

// linked is the foreign code that a program gets with package store. README.md says the
// figure.
var linked = []string{
	"github.com/cyphar/filepath-securejoin", // by selinux
	"github.com/klauspost/compress",
	"github.com/klauspost/pgzip",
	"github.com/moby/sys/mountinfo",
	"github.com/opencontainers/go-digest",
	"github.com/opencontainers/selinux",
	"github.com/ulikunitz/xz",
	"golang.org/x/sys",
}

// maxLines bounds the code that comes with package store, and is only ever to become
// less. containers/storage 1.64.2 takes 23,667 lines for the same.
const maxLines = 23000

func TestRequirements(t *testing.T) {
	out, err := exec.Command("go", "mod", "edit", "-json", "go.mod").Output()
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Replace []any
	}
	if err := json.Unmarshal(out, &file); err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, r := range file.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	slices.Sort(direct)
	if !slices.Equal(direct, required) {
		t.Errorf("go.mod asks for\n%s\nand not for\n%s", strings.Join(direct, "\n"), strings.Join(required, "\n"))
	}
	if len(file.Replace) > 0 {
		t.Error("go.mod replaces modules: nobody who uses this one would see it")
	}
}

// What a program gets that links package store: the modules of others, and our own lines.
func TestClosureOfStore(t *testing.T) {
	packages(t) // so that the result isn't remembered
	list, err := listPackages("./store")
	if err != nil {
		t.Fatal(err)
	}
	var foreign []string
	lines := 0
	for _, p := range list {
		switch {
		case p.Module == nil: // the standard library
		case p.Module.Path != module:
			foreign = append(foreign, p.Module.Path)
		default:
			for _, name := range p.GoFiles {
				lines += codeLines(t, filepath.Join(p.Dir, name))
			}
		}
	}
	slices.Sort(foreign)
	foreign = slices.Compact(foreign)
	if !slices.Equal(foreign, linked) {
		t.Errorf("store links\n%s\nand not\n%s", strings.Join(foreign, "\n"), strings.Join(linked, "\n"))
	}
	if readme, err := os.ReadFile("README.md"); err != nil || !strings.Contains(string(readme),
		"code of eight other modules") || len(linked) != 8 {
		t.Errorf("README.md doesn't say that store links the code of %d other modules: %v", len(linked), err)
	}
	t.Logf("%d lines of code", lines)
	if lines > maxLines {
		t.Errorf("store and what it imports of this module are %d lines of code, more than %d", lines, maxLines)
	}
}

// codeLines counts the lines of a file on which something other than a comment stands.
func codeLines(t *testing.T, path string) int {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file := token.NewFileSet().AddFile(path, -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, 0)
	count, last := 0, 0
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			return count
		}
		if tok == token.SEMICOLON && text == "\n" { // the scanner's own
			continue
		}
		first := file.Line(pos)
		end := first + strings.Count(text, "\n") // a raw string's
		count += end - max(first-1, last)
		last = end
	}
}
