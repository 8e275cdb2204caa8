package main

import (
	"archive/zip"
	"bytes"
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

// publisher writes modules as `go help goproxy` says.
type publisher struct {
	top, version string
	proxy        string // the directory to write to
	cache        string // a module cache of its own
}

// publish writes a module: its list of versions, and of this one the facts, go.mod, and a
// zip of the files that git knows and no module within has.
func (p *publisher) publish(m module) error {
	dir := filepath.Join(p.proxy, m.Path, "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files, err := moduleFiles(m.Dir)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	add := func(file, from string) error {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		w, err := z.Create(m.Path + "@" + p.version + "/" + file)
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	}
	for _, file := range files {
		if err := add(file, filepath.Join(m.Dir, file)); err != nil {
			return err
		}
	}
	if !slices.Contains(files, "LICENSE") { // then the go command takes the repository's
		if err := add("LICENSE", filepath.Join(p.top, "LICENSE")); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	mod, err := os.ReadFile(filepath.Join(m.Dir, "go.mod"))
	if err != nil {
		return err
	}
	info, err := json.Marshal(map[string]any{"Version": p.version, "Time": time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, p.version+".zip"), archive.Bytes(), 0o644),
		os.WriteFile(filepath.Join(dir, p.version+".mod"), mod, 0o644),
		os.WriteFile(filepath.Join(dir, p.version+".info"), info, 0o644),
		os.WriteFile(filepath.Join(dir, "list"), []byte(p.version+"\n"), 0o644))
}

// moduleFiles lists the files that make a module, as the go command chooses them: no
// links, nothing of a module within.
func moduleFiles(dir string) ([]string, error) {
	out, err := run(dir, "git", "ls-files", "-z")
	if err != nil {
		return nil, err
	}
	files := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	var within []string
	for _, file := range files {
		if folder, ok := strings.CutSuffix(file, "/go.mod"); ok {
			within = append(within, folder+"/")
		}
	}
	return slices.DeleteFunc(files, func(file string) bool {
		info, err := os.Lstat(filepath.Join(dir, file))
		return err != nil || !info.Mode().IsRegular() ||
			slices.ContainsFunc(within, func(folder string) bool { return strings.HasPrefix(file, folder) })
	}), nil
}

// sum writes into a module's go.sum what the modules of ours that it asks for are.
func (p *publisher) sum(m module) error {
	path := filepath.Join(m.Dir, "go.sum")
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var kept []string
	for line := range strings.Lines(string(old)) {
		if !strings.HasPrefix(line, library+" ") && !strings.HasPrefix(line, library+"/") {
			kept = append(kept, line)
		}
	}
	r, err := readRequirements("mod", filepath.Join(m.Dir, "go.mod"))
	if err != nil {
		return err
	}
	for _, want := range r.ours() {
		cmd := exec.Command("go", "mod", "download", "-json", want+"@"+p.version)
		cmd.Env = append(cmd.Environ(), "GOWORK=off", "GOFLAGS=-modcacherw", "GOMODCACHE="+p.cache, "GOPROXY=file://"+
			p.proxy,
			"GONOSUMDB=*", "GONOPROXY=none", "GOPRIVATE=")
		out, err := output(cmd, p.proxy)
		if err != nil {
			return err
		}
		var sums struct{ Path, Version, Sum, GoModSum string }
		if err := json.Unmarshal([]byte(out), &sums); err != nil {
			return fmt.Errorf("go mod download: %w", err)
		}
		kept = append(kept, fmt.Sprintf("%s %s %s\n%[1]s %[2]s/go.mod %[4]s\n", want, p.version, sums.Sum,
			sums.GoModSum))
	}
	slices.Sort(kept)
	return os.WriteFile(path, []byte(strings.Join(kept, "")), 0o644)
}
