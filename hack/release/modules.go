package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

const library = "github.com/shalestore/shale"

// module is one of go.work's.
type module struct {
	Path   string
	Dir    string
	Folder string // below the top, "." for the library
}

// requirements is what `go mod edit -json` and `go work edit -json` tell.
type requirements struct {
	Module  struct{ Path string }
	Require []struct{ Path, Version string }
	Replace []struct {
		Old, New struct{ Path, Version string }
	}
}

func (r requirements) ours() (paths []string) {
	for _, q := range r.Require {
		if q.Path == library || strings.HasPrefix(q.Path, library+"/") {
			paths = append(paths, q.Path)
		}
	}
	return paths
}

func readRequirements(kind, path string) (r requirements, err error) {
	out, err := run(filepath.Dir(path), "go", kind, "edit", "-json", path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// workspace lists the modules of go.work, each after those that it asks for.
func workspace(top string) ([]module, error) {
	out, err := run(top, "go", "list", "-m", "-f", "{{.Path}}\t{{.Dir}}")
	if err != nil {
		return nil, err
	}
	var sorted []module
	for left := strings.Split(out, "\n"); len(left) > 0; {
		before := len(left)
		for i := 0; i < len(left); i++ {
			path, dir, _ := strings.Cut(left[i], "\t")
			r, err := readRequirements("mod", filepath.Join(dir, "go.mod"))
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(r.ours(), func(want string) bool {
				return !slices.ContainsFunc(sorted, func(m module) bool { return m.Path == want })
			}) {
				continue
			}
			folder, err := filepath.Rel(top, dir)
			if err != nil {
				return nil, err
			}
			sorted = append(sorted, module{path, dir, folder})
			left = slices.Delete(left, i, i+1)
			i--
		}
		if len(left) == before {
			return nil, fmt.Errorf("modules that ask for each other: %v", left)
		}
	}
	return sorted, nil
}

// setVersions lets every go.mod that asks for modules of ours ask for this version, and
// go.work take them from here: it isn't published yet.
func setVersions(top, version string) error {
	files, err := run(top, "git", "ls-files", "go.mod", "*/go.mod")
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for file := range strings.FieldsSeq(files) {
		path := filepath.Join(top, file)
		r, err := readRequirements("mod", path)
		if err != nil {
			return err
		}
		for _, want := range r.ours() {
			wanted[want] = true
			if _, err := run(top, "go", "mod", "edit", "-require", want+"@"+version, path); err != nil {
				return err
			}
		}
	}
	work := filepath.Join(top, "go.work")
	r, err := readRequirements("work", work)
	if err != nil {
		return err
	}
	for _, replaced := range r.Replace {
		old := replaced.Old.Path + "@" + replaced.Old.Version
		if _, err := run(top, "go", "work", "edit", "-dropreplace", old, work); err != nil {
			return err
		}
		if !wanted[replaced.Old.Path] {
			return fmt.Errorf("go.work replaces %s, which nothing asks for", replaced.Old.Path)
		}
		replacement := replaced.Old.Path + "@" + version + "=" + replaced.New.Path
		if _, err := run(top, "go", "work", "edit", "-replace", replacement, work); err != nil {
			return err
		}
	}
	return nil
}
