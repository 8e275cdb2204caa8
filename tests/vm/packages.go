package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/shalestore/shale/internal/testutil"
)

// cached returns a directory of the cache. Where it isn't there, it is filled aside first, so that nobody sees half of it.
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

// unpack downloads Debian packages and unpacks them in dir, without installing them.
func unpack(ctx context.Context, dir string, packages ...string) error {
	if _, err := command(ctx, dir, "apt-get", append([]string{"download", "-q"}, packages...)...); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if _, err := command(ctx, dir, "dpkg-deb", "-x", archive, "."); err != nil {
			return err
		}
		if err := os.Remove(archive); err != nil {
			return err
		}
	}
	return nil
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
