package shale_test

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// What lies beneath a store's roots is opened by internal/openat, which follows no link
// and takes nothing for a file that isn't one. Each exception says why it is none.
func TestOneWayIntoAStore(t *testing.T) {
	inside := []string{"catalog", "layers", "images", "containers", "drivers", "store"}
	opens := map[string][]string{
		"os": {"Open", "OpenFile", "Create", "ReadFile", "ReadDir", "WriteFile", "RemoveAll", "CreateTemp",
			"MkdirTemp"},
		"unix": {"Open", "Openat", "Openat2", "Creat"},
	}
	exceptions := map[string]string{
		"store/autouserns.go":          "the lists of users that a caller names are the host's",
		"drivers/overlay/probe.go":     "test mounts in a temporary directory of this process",
		"drivers/overlay/idmap.go":     "test mounts in a temporary directory of this process",
		"store/fsck/places.go":         "looks at names and types only, of what nothing else may be asked about",
		"store/fsck/strays.go":         "lists the directories that places.go has looked at",
		"drivers/drivertest/":          "a suite of tests",
		"internal/lockfile/waiting.go": "asks /proc who holds a lock",
		"internal/bigdata/owners.go":   "os.RemoveAll removes a link and doesn't follow it",
	}
	met := map[string]bool{}
	for _, p := range packages(t) {
		rel, ours := strings.CutPrefix(p.ImportPath, module+"/")
		name, _, _ := strings.Cut(rel, "/")
		if !ours {
			continue
		}
		if !slices.Contains(inside, name) && !slices.Contains([]string{"internal/bigdata", "internal/lockfile",
			"internal/tempdir", "internal/atomicfile"}, rel) {
			continue
		}
		eachFile(t, p, func(file string, tree *ast.File) {
			path := rel + "/" + strings.Trim(file[strings.LastIndex(file, "/"):], `/"`)
			ast.Inspect(tree, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				pkg, ok := sel.X.(*ast.Ident)
				if !ok || !slices.Contains(opens[pkg.Name], sel.Sel.Name) {
					return true
				}
				for exception := range exceptions {
					if strings.HasPrefix(path, exception) {
						met[exception] = true
						return true
					}
				}
				t.Errorf("%s uses %s.%s: internal/openat opens what is in a store", path, pkg.Name, sel.Sel.Name)
				return true
			})
		})
	}
	for exception := range exceptions {
		if !met[exception] {
			t.Errorf("%s is no exception any more", exception)
		}
	}
}
