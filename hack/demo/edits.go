package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// edits are changes of every kind, made to real files through the mount. Each returns
// what it did, for the narrative.
func edits(root string, p place) ([]string, error) {
	at := func(name string) string { return filepath.Join(root, name) }
	var done []string
	var failed error
	step := func(what string, err error) {
		if err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", what, err)
		}
		done = append(done, what)
	}

	step("edit fmt/print.go", rewrite(at("fmt/print.go"), "Println", "Drucke"))
	step("append to fmt/doc.go", appendTo(at("fmt/doc.go"), "\n// changed in a container\n"))
	step("delete sort/sort.go", os.Remove(at("sort/sort.go")))
	step("delete the directory testing/quick", os.RemoveAll(at("testing/quick")))
	step("rename os/file.go to os/file_renamed.go", os.Rename(at("os/file.go"), at("os/file_renamed.go")))
	step("chmod 0750 fmt/scan.go", os.Chmod(at("fmt/scan.go"), 0o750))
	step("set the sticky bit on io", os.Chmod(at("io"), 0o755|os.ModeSticky))
	if p.ids {
		step("chown 1:1 time/time.go", os.Lchown(at("time/time.go"), 1, 1))
	}
	if p.xattrs {
		step("set user.reviewed on net/http/server.go", unix.Setxattr(at("net/http/server.go"), "user.reviewed",
			[]byte("yes"), 0))
	}
	step("make the directory new/deep with a file, a symlink, a hard link and a fifo", makeNew(at("new/deep")))
	step("replace the directory strings by another of that name", replaceDirectory(at("strings")))
	step("replace the file bufio/bufio.go by a directory", replaceFile(at("bufio/bufio.go")))
	return done, failed
}

func rewrite(name, from, to string) error {
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name, []byte(strings.ReplaceAll(string(content), from, to)), 0)
}

func appendTo(name, text string) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if _, err := file.WriteString(text); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

func makeNew(directory string) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	file := filepath.Join(directory, "file")
	if err := os.WriteFile(file, []byte("brand new\n"), 0o640); err != nil {
		return err
	}
	if err := os.Symlink("file", filepath.Join(directory, "symlink")); err != nil {
		return err
	}
	if err := os.Link(file, filepath.Join(directory, "hardlink")); err != nil {
		return err
	}
	return syscall.Mkfifo(filepath.Join(directory, "fifo"), 0o600)
}

func replaceDirectory(directory string) error {
	if err := os.RemoveAll(directory); err != nil {
		return err
	}
	if err := os.Mkdir(directory, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, "only.go"), []byte("package strings\n"), 0o644)
}

func replaceFile(name string) error {
	if err := os.Remove(name); err != nil {
		return err
	}
	if err := os.Mkdir(name, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(name, "inside"), nil, 0o600)
}
