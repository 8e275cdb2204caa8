package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/internal/testutil"
)

// cached returns a directory of the cache. Where it isn't there, it is filled aside
// first, so that nobody sees half of it.
func cached(name string, fill func(aside string) error) (string, error) {
	dir := filepath.Join(testutil.CacheDir(), name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(testutil.CacheDir(), 0o755); err != nil {
		return "", err
	}
	aside, err := os.MkdirTemp(testutil.CacheDir(), name+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(aside)
	if err := fill(aside); err != nil {
		return "", err
	}
	err = os.Rename(aside, dir)
	if _, e := os.Stat(dir); e == nil {
		err = nil // also when somebody else was faster
	}
	return dir, err
}

// apt gets Debian packages without installing them, as anyone may.
type apt struct {
	dir     string // where to unpack
	options []string
}

// debian12 is the suite that stands in for the host's lists of packages where it has
// none, as images of containers do.
const debian12 = "bookworm"

const aptState = "apt" // a directory for lists; gone after unpack

// newApt uses the host's own lists of packages where they know the wanted one, or for a
// suite of its own choice ("bookworm-backports") lists that it fetches into dir.
func newApt(ctx context.Context, dir, suite, wanted string) (apt, error) {
	a := apt{dir, []string{"-q", "-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=20"}}
	if suite == "" {
		if _, err := a.run(ctx, "apt-cache", "show", wanted); err == nil {
			return a, nil
		}
		suite = debian12
	}
	state := filepath.Join(dir, aptState)
	sources := filepath.Join(state, "sources.list")
	if err := os.MkdirAll(filepath.Join(state, "lists"), 0o755); err != nil {
		return a, err
	}
	if err := os.WriteFile(sources, []byte("deb http://deb.debian.org/debian "+suite+" main\n"), 0o644); err != nil {
		return a, err
	}
	a.options = append(a.options, "-o", "Dir::Etc::SourceList="+sources, "-o", "Dir::Etc::SourceParts=-",
		"-o", "Dir::State::Lists="+filepath.Join(state, "lists"), "-o", "Dir::Cache="+state, "-o",
		"APT::Sandbox::User=")
	_, err := a.run(ctx, "apt-get", "update")
	return a, err
}

func (a apt) run(ctx context.Context, program string, args ...string) (string, error) {
	return command(ctx, a.dir, program, append(slices.Clone(a.options), args...)...)
}

// dependency is the first package that a package depends on.
func (a apt) dependency(ctx context.Context, name string) (string, error) {
	out, err := a.run(ctx, "apt-cache", "depends", "--important", name)
	if err != nil {
		return "", err
	}
	_, found, ok := strings.Cut(out, "Depends: ")
	if !ok {
		return "", fmt.Errorf("apt-cache knows nothing that %s depends on", name)
	}
	found, _, _ = strings.Cut(found, "\n")
	return found, nil
}

// unpack downloads packages and unpacks them, and is the last thing to do with an apt.
func (a apt) unpack(ctx context.Context, packages ...string) error {
	if _, err := a.run(ctx, "apt-get", append([]string{"download"}, packages...)...); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(a.dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if _, err := command(ctx, a.dir, "dpkg-deb", "-x", archive, "."); err != nil {
			return err
		}
		if err := os.Remove(archive); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(a.dir, aptState))
}

// command runs a program in a directory and returns what it prints.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return string(out), err
}
