// Vulncheck runs govulncheck on the modules of this repository against a database of
// vulnerabilities on disk. The public server of that database may be out of reach where
// builds run, while the Go module proxy isn't: the module golang.org/x/vulndb holds the
// same reports, and lacks only the index that the server makes of them.
//
//	vulncheck [MODULE DIRECTORY...]
//
// It exits with 1 when a module calls a function that a report is about. Reports about
// other systems than Linux are left out. Where the reports or govulncheck can't be
// downloaded it says so and exits with 0: a network that is away is no vulnerability.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	database = "golang.org/x/vulndb@latest"
	checker  = "golang.org/x/vuln/cmd/govulncheck@v1.6.0"
)

// errAway says that something couldn't be downloaded.
var errAway = errors.New("no download")

func main() {
	if err := run(os.Args[1:]); errors.Is(err, errAway) {
		fmt.Println("vulncheck: nothing was checked:", err)
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "vulncheck:", err)
		os.Exit(1)
	}
}

func run(modules []string) error {
	work, err := os.MkdirTemp("", "shale-vulncheck")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	reports, date, err := download(work)
	if err != nil {
		return err
	}
	fmt.Println("reports of", date.Format(time.DateOnly))
	if len(modules) == 0 {
		modules = []string{"."}
	}
	return check(work, reports, modules)
}

// check runs govulncheck, which it builds in work, on modules by the reports of a
// directory.
func check(work, reports string, modules []string) error {
	db := filepath.Join(work, "db")
	n, err := index(reports, db)
	if err != nil {
		return err
	}
	install := exec.Command("go", "install", checker)
	install.Env = append(install.Environ(), "GOBIN="+work, "GOFLAGS=", "GOWORK=off")
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: install %s: %w: %s", errAway, checker, err, out)
	}
	for _, dir := range modules {
		fmt.Printf("%s, by %d reports:\n", dir, n)
		cmd := exec.Command(filepath.Join(work, "govulncheck"), "-db", "file://"+db, "-C", dir, "./...")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

// download returns the directory with the newest reports, and when they were published.
func download(work string) (reports string, published time.Time, err error) {
	if err := os.WriteFile(filepath.Join(work, "go.mod"), []byte("module vulncheck\n"), 0o644); err != nil {
		return "", published, err
	}
	cmd := exec.Command("go", "mod", "download", "-json", database)
	cmd.Dir, cmd.Stderr = work, os.Stderr
	cmd.Env = append(cmd.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", published, fmt.Errorf("%w: %s: %w", errAway, database, err)
	}
	var module struct{ Dir, Info string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", published, fmt.Errorf("go mod download: %w", err)
	}
	var info struct{ Time time.Time }
	if err := readJSON(module.Info, &info); err != nil {
		return "", published, err
	}
	return filepath.Join(module.Dir, "data/osv"), info.Time, nil
}

// report is what the index needs of a report, see https://ossf.github.io/osv-schema.
type report struct {
	ID        string    `json:"id"`
	Modified  time.Time `json:"modified"`
	Withdrawn time.Time `json:"withdrawn,omitzero"`
	Aliases   []string  `json:"aliases,omitempty"`
	Affected  []struct {
		Package  struct{ Name string }
		Specific struct {
			Imports []struct{ GOOS []string }
		} `json:"ecosystem_specific"`
	}
}

// elsewhere reports whether r is about other systems than Linux alone. govulncheck
// counts such reports too.
func (r report) elsewhere() bool {
	some := false
	for _, a := range r.Affected {
		for _, i := range a.Specific.Imports {
			if len(i.GOOS) == 0 || slices.Contains(i.GOOS, "linux") {
				return false
			}
			some = true
		}
	}
	return some
}

// The files of the database are those of https://go.dev/doc/security/vuln/database.
type (
	indexedVuln struct {
		ID       string    `json:"id"`
		Modified time.Time `json:"modified"`
		Aliases  []string  `json:"aliases,omitempty"`
	}
	indexedModule struct {
		Path  string        `json:"path"`
		Vulns []indexedVuln `json:"vulns"`
	}
)

// index makes a database in db of the reports, and returns how many there are.
func index(reports, db string) (int, error) {
	for _, dir := range []string{"ID", "index"} {
		if err := os.MkdirAll(filepath.Join(db, dir), 0o755); err != nil {
			return 0, err
		}
	}
	paths, err := filepath.Glob(filepath.Join(reports, "*.json"))
	if err != nil {
		return 0, err
	}
	var newest time.Time
	var vulns []indexedVuln
	byModule := map[string][]indexedVuln{}
	for _, path := range paths {
		var r report
		if err := readJSON(path, &r); err != nil {
			return 0, err
		}
		if !r.Withdrawn.IsZero() || r.elsewhere() {
			continue
		}
		if err := os.Symlink(path, filepath.Join(db, "ID", r.ID+".json")); err != nil {
			return 0, err
		}
		if r.Modified.After(newest) {
			newest = r.Modified
		}
		vulns = append(vulns, indexedVuln{ID: r.ID, Modified: r.Modified, Aliases: r.Aliases})
		seen := map[string]bool{}
		for _, a := range r.Affected {
			if name := a.Package.Name; !seen[name] {
				seen[name] = true
				byModule[name] = append(byModule[name], indexedVuln{ID: r.ID, Modified: r.Modified})
			}
		}
	}
	if len(vulns) == 0 {
		return 0, fmt.Errorf("%s: no reports", reports)
	}
	modules := make([]indexedModule, 0, len(byModule))
	for name, list := range byModule {
		modules = append(modules, indexedModule{Path: name, Vulns: list})
	}
	slices.SortFunc(modules, func(a, b indexedModule) int { return strings.Compare(a.Path, b.Path) })
	for name, v := range map[string]any{
		"db": struct {
			Modified time.Time `json:"modified"`
		}{newest}, "vulns": vulns, "modules": modules,
	} {
		data, err := json.Marshal(v)
		if err != nil {
			return 0, err
		}
		if err := os.WriteFile(filepath.Join(db, "index", name+".json"), data, 0o644); err != nil {
			return 0, err
		}
	}
	return len(vulns), nil
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
