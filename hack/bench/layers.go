package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/tests/corpus"
)

// testLayer is a real layer, made once from packages of Debian and npm and kept in the
// cache of the tests.
type testLayer struct {
	name, about string
	tree        func(ctx context.Context, dir string) error
	tar         func(path string) error // in place of tree, for layers that are made as a tar
}

func testLayers(quick bool) []testLayer {
	if quick {
		return []testLayer{{name: "small", about: "6,000 small files",
			tar: func(path string) error { return corpus.WriteSmallFiles(path, 6000) }}}
	}
	return []testLayer{
		{name: "base", about: "Debian's base system", tree: debian("minbase")},
		{name: "dev", about: "compilers, Boost, Python and Django", tree: debian("extract",
			"base-files", "build-essential", "gfortran", "libboost-dev", "python3-django", "python3-numpy",
			"python3-scipy", "git", "cmake",
			"python3-sphinx", "perl-doc", "manpages-dev", "libicu-dev")},
		{name: "node", about: "a node_modules", tree: nodeModules},
		{name: "huge", about: "five files of 100 MB", tree: fiveFiles},
	}
}

// mib is how large a file system for it has to be: one contestant keeps its blob as well.
func (l testLayer) mib() int {
	info, err := os.Stat(filepath.Join(cache(), l.name+".tar"))
	if err != nil {
		return 1024
	}
	return int(info.Size()>>20)*5/2 + 512
}

// file gives the layer's tar in a compression: ".tar", ".tar.gz" as pigz -6 makes it, or
// ".tar.zst" as zstd -3 does.
func (l testLayer) file(ctx context.Context, ext string) (string, error) {
	plain := filepath.Join(cache(), l.name+".tar")
	if err := os.MkdirAll(cache(), 0o755); err != nil {
		return "", err
	}
	err := once(plain, func(aside string) error {
		progress("making %s: %s", filepath.Base(plain), l.about)
		if l.tar != nil {
			return l.tar(aside)
		}
		dir, err := os.MkdirTemp(cache(), "tree-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := l.tree(ctx, dir); err != nil {
			return err
		}
		return runTool(ctx, "tar", "--create", "--file", aside, "--directory", dir, "--sort=name", "--format=posix",
			"--numeric-owner", "--pax-option=delete=atime,delete=ctime", "--xattrs", ".")
	})
	if err != nil || ext == ".tar" {
		return plain, err
	}
	compressor := []string{"zstd", "-3", "--stdout", plain}
	if ext == ".tar.gz" {
		compressor = []string{fastest("pigz", "gzip"), "-6", "--stdout", plain}
	}
	packed := strings.TrimSuffix(plain, ".tar") + ext
	return packed, once(packed, func(aside string) error {
		out, err := os.Create(aside)
		if err != nil {
			return err
		}
		defer out.Close()
		cmd := exec.CommandContext(ctx, compressor[0], compressor[1:]...)
		cmd.Stdout = out
		return cmd.Run()
	})
}

func cache() string { return filepath.Join(testutil.CacheDir(), "bench") }

// once makes a file that is not there yet, aside and renamed.
func once(path string, create func(aside string) error) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	aside := path + ".new"
	defer os.Remove(aside)
	if err := create(aside); err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return os.Rename(aside, path)
}

// debian unpacks packages; the variant "extract" does not run their scripts.
func debian(variant string, packages ...string) func(ctx context.Context, dir string) error {
	return func(ctx context.Context, dir string) error {
		args := []string{"--quiet", "--mode=root", "--variant=" + variant, "--aptopt=Acquire::Retries \"3\""}
		if len(packages) > 0 {
			args = append(args, "--include="+strings.Join(packages, ","))
		}
		root := filepath.Join(dir, "root")
		if err := runTool(ctx, "mmdebstrap", append(args, "bookworm", root,
			"http://deb.debian.org/debian")...); err != nil {
			return err
		}
		// no devices, and no copies of the packages themselves
		for _, empty := range []string{"dev", "var/lib/apt/lists", "var/cache/apt"} {
			if err := os.RemoveAll(filepath.Join(root, empty)); err != nil {
				return err
			}
		}
		return nil
	}
}

// nodeModules installs what a large web project depends on.
func nodeModules(ctx context.Context, dir string) error {
	return runTool(ctx, "npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund",
		"--legacy-peer-deps", "--prefix", dir,
		"next@14.2.3", "react-scripts@5.0.1", "@angular/cli@17.3.7", "@angular/core@17.3.8", "webpack@5.91.0",
		"eslint@8.57.0", "typescript@5.4.5", "jest@29.7.0",
		"date-fns@3.6.0", "rxjs@7.8.1", "lodash@4.17.21", "core-js@3.37.1", "aws-sdk@2.1618.0", "three@0.164.1",
		"echarts@5.5.0", "ramda@0.30.0", "typeorm@0.3.20")
}

// fiveFiles cuts the content of a toolchain's files into five of 100 MB, which compress
// as binaries do.
func fiveFiles(ctx context.Context, dir string) error {
	source, err := testLayers(false)[1].file(ctx, ".tar")
	if err != nil {
		return err
	}
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	for i := range 5 {
		out, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("part-%d", i)), os.O_CREATE|os.O_WRONLY|os.O_EXCL,
			fs.FileMode(0o644))
		if err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, 100<<20); err != nil {
			out.Close()
			return err
		}
		if err := out.Close(); err != nil {
			return err
		}
	}
	return nil
}
