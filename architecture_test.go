// Package shale_test holds what is true of the module as a whole. This file asserts the
// rules of docs/architecture.md that the compiler doesn't: who may import whom, and what
// a library never does.
package shale_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/shalestore/shale"

// floors are the folders of the modules of go.work, from top to bottom. A package imports
// from floors below its own, and from its own folder. A folder within another has a floor
// of its own where it is named here.
var floors = [][]string{
	{"hack", ""},
	{"tests"},
	{"cmd"},
	{"compat"},
	{"store/fsck", "store/usage", "store/dedup"},
	{"store/manifest"},
	{"store"},
	{"store/internal/roots"},
	{"layers", "images", "containers"},
	{"catalog", "drivers", "archive"},
	{"config"},
	{"mount"},
	{"idtools", "quota"},
	{"internal"},
	{"errdefs"},
}

// goPackage is what go list tells of a package.
type goPackage struct {
	Dir, ImportPath, Name string
	GoFiles, CgoFiles     []string
	Imports               []string
	Module                *struct{ Path string }
}

// folder is the folder of the floors to which a package of ours belongs, the innermost
// one, or the top-level folder where it has no floor; "" is the root. ok is false for
// foreign packages.
func folder(path string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(path, module)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	rest = strings.TrimPrefix(rest, "/")
	for name = rest; name != "" && floor(name) < 0; {
		name = strings.TrimSuffix(name[:strings.LastIndex(name, "/")+1], "/")
	}
	if name == "" {
		name, _, _ = strings.Cut(rest, "/")
	}
	return name, true
}

// floor is the number of the floor on which a folder is, counted from the top, or -1.
func floor(name string) int {
	return slices.IndexFunc(floors, func(f []string) bool { return slices.Contains(f, name) })
}

// goList is what go list says of the workspace.
func goList(args ...string) (string, error) {
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go list %v: %w", args, err)
	}
	return string(out), nil
}

// listPackages decodes what go list tells of packages and all that they import.
func listPackages(patterns ...string) ([]goPackage, error) {
	out, err := goList(append([]string{"-deps", "-json"}, patterns...)...)
	if err != nil {
		return nil, err
	}
	var list []goPackage
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		list = append(list, p)
	}
}

// workspace lists the packages of the modules of go.work.
var workspace = sync.OnceValues(func() ([]goPackage, error) {
	dirs, err := goList("-m", "-f", "{{.Dir}}/...")
	if err != nil {
		return nil, err
	}
	list, err := listPackages(strings.Fields(dirs)...)
	return slices.DeleteFunc(list, func(p goPackage) bool {
		_, ours := folder(p.ImportPath)
		return !ours
	}), err
})

func packages(t *testing.T) []goPackage {
	t.Helper()
	// go test remembers results by what the test itself looked at, which isn't what go
	// list does.
	if err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(path, ".go") || filepath.Base(path) == "go.mod") {
			_, err = os.Stat(path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	list, err := workspace()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// isLibrary reports whether other programs may link the package: it then neither prints,
// logs, exits nor reads the environment. testutil is for our own tests.
func isLibrary(p goPackage) bool {
	name, _ := folder(p.ImportPath)
	return !slices.Contains([]string{"", "tests", "hack", "cmd"}, name) && p.ImportPath != module+"/internal/testutil"
}

// Imports run one way, and packages on one floor know nothing of each other, except that
// a driver knows what a driver is.
func TestImportsRunOneWay(t *testing.T) {
	list := packages(t)
	if len(list) < 10 {
		t.Fatalf("go list found only %d packages", len(list))
	}
	empty := slices.Concat(floors...)
	for _, p := range list {
		from, _ := folder(p.ImportPath)
		if floor(from) < 0 {
			t.Errorf("%s: the folder %s has no floor: which is it?", p.ImportPath, from)
			continue
		}
		empty = slices.DeleteFunc(empty, func(name string) bool { return name == from })
		for _, path := range p.Imports {
			to, ours := folder(path)
			if !ours || path == p.ImportPath {
				continue
			}
			switch {
			case from == to:
				if stories := []string{"apply", "diff", "verify"}; from == "archive" &&
					slices.Contains(stories, strings.TrimPrefix(path, module+"/archive/")) {
					t.Errorf("%s imports %s: the stories of archive don't know each other", p.ImportPath, path)
				}
				if driver := driverOf(path); driver != "" && driverOf(p.ImportPath) != driver &&
					p.ImportPath != module+"/drivers" {
					t.Errorf("%s imports %s: drivers don't know each other", p.ImportPath, path)
				}
				if p.ImportPath == module+"/drivers" {
					t.Errorf("%s imports %s: the contract doesn't know its drivers", p.ImportPath, path)
				}
			case floor(from) >= floor(to):
				t.Errorf("%s imports %s: imports run from %s to what is below it", p.ImportPath, path, from)
			case path == module+"/config/storageconf" && floor(from) >= floor("store"):
				t.Errorf("%s imports %s: whoever opens a store reads its configuration", p.ImportPath, path)
			case to == "config" && floor(from) > floor("store/internal/roots"):
				t.Errorf("%s imports %s: the store and what is above it know the configuration", p.ImportPath, path)
			}
		}
	}
	if len(empty) > 0 && !slices.Equal(empty, []string{""}) {
		t.Errorf("folders with a floor and without packages: %v", empty)
	}
}

// driverOf is the name of the driver that a package is of, "" for none.
func driverOf(path string) string {
	rest, _ := strings.CutPrefix(path, module+"/drivers/")
	if rest == path {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// What only cmd may do, no library does: log, use C, or run code by being linked.
func TestLibrariesAreQuiet(t *testing.T) {
	for _, p := range packages(t) {
		if !isLibrary(p) {
			continue
		}
		if len(p.CgoFiles) > 0 || slices.Contains(p.Imports, "C") {
			t.Errorf("%s uses cgo", p.ImportPath)
		}
		for _, path := range p.Imports {
			if slices.Contains([]string{"github.com/sirupsen/logrus", "log", "log/slog"}, path) {
				t.Errorf("%s imports %s: libraries return what they have to say", p.ImportPath, path)
			}
		}
		eachFile(t, p, func(file string, tree *ast.File) {
			for _, d := range tree.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
					t.Errorf("%s has an init function", file)
				}
			}
		})
	}
}

// Who doesn't want containers/storage doesn't link it.
func TestOnlyCompatLinksContainersStorage(t *testing.T) {
	for _, p := range packages(t) {
		if name, _ := folder(p.ImportPath); name == "compat" {
			continue
		}
		for _, path := range p.Imports {
			if strings.HasPrefix(path+"/", "go.podman.io/storage/") {
				t.Errorf("%s imports %s: its interfaces belong in compat", p.ImportPath, path)
			}
		}
	}
}

// Only storageconf asks the environment for anything.
func TestOneReaderOfTheEnvironment(t *testing.T) {
	asking := []string{"Getenv", "LookupEnv", "ExpandEnv", "Setenv", "Unsetenv", "Clearenv", "TempDir", "UserHomeDir",
		"UserConfigDir", "UserCacheDir"}
	for _, p := range packages(t) {
		if p.ImportPath == module+"/config/storageconf" || !isLibrary(p) {
			continue
		}
		eachFile(t, p, func(file string, tree *ast.File) {
			ast.Inspect(tree, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					if pkg, ok := sel.X.(*ast.Ident); ok && (pkg.Name == "os" || pkg.Name == "syscall" ||
						pkg.Name == "unix") && slices.Contains(asking, sel.Sel.Name) {
						t.Errorf("%s uses %s.%s: storageconf tells what it says", file, pkg.Name, sel.Sel.Name)
					}
				}
				return true
			})
		})
	}
}

// A name says what is inside.
func TestPackageNames(t *testing.T) {
	for _, p := range packages(t) {
		for _, part := range append(strings.Split(strings.TrimPrefix(p.ImportPath, module), "/"), p.Name) {
			if slices.Contains([]string{"util", "utils", "common", "types", "helper", "helpers", "misc", "base",
				"shared", "lib", "pkg"}, part) {
				t.Errorf("%s: %q says nothing about what is in there", p.ImportPath, part)
			}
		}
	}
}

// eachFile parses the files of a package that aren't tests.
func eachFile(t *testing.T, p goPackage, visit func(name string, tree *ast.File)) {
	t.Helper()
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
		path := filepath.Join(p.Dir, name)
		tree, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		visit(p.ImportPath+"/"+strconv.Quote(name), tree)
	}
}
