package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// demo is one run, in the namespaces that supervise made.
type demo struct {
	ctx   context.Context
	shale string
	place place
}

// store is one of the two stores: global flags for every command.
type store struct {
	d     *demo
	flags []string
}

func (d *demo) store(name string) store {
	root := filepath.Join(d.place.directory, name)
	return store{d, []string{"--graph", filepath.Join(root, "root"), "--run", filepath.Join(root, "run"),
		"--storage-driver", d.place.driver}}
}

// run tells the story. Each step checks what it shows.
func (d *demo) run(source string) error {
	for _, note := range d.place.notes {
		d.say("note", "%s", note)
	}
	base, err := d.pack(source)
	if err != nil {
		return err
	}
	first, second := d.store("first"), d.store("second")
	if err := first.importBase(base); err != nil {
		return err
	}
	mounted, err := first.stack()
	if err != nil {
		return err
	}
	done, err := edits(mounted, d.place)
	if err != nil {
		return err
	}
	d.say("change", "files through the mount:")
	for _, what := range done {
		d.more("%s", what)
	}
	if err := first.showChanges(); err != nil {
		return err
	}
	exported := filepath.Join(d.place.directory, "work.tar.zst")
	if err := first.export(exported); err != nil {
		return err
	}
	if err := d.carry(second, base, exported); err != nil {
		return err
	}
	if err := d.compare(mounted, second); err != nil {
		return err
	}
	if err := d.replay(second, base); err != nil {
		return err
	}
	for _, s := range []store{first, second} {
		if err := s.empty(); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) pack(source string) (sourceTar, error) {
	began := time.Now()
	base, err := writeSourceTar(d.ctx, filepath.Join(d.place.directory, "base.tar"), source)
	if err != nil {
		return base, err
	}
	if needed, got := 3*base.bytes, free(d.place.directory); got < needed {
		return base, fmt.Errorf("%s has %s free and the demo needs %s: name a roomier directory with --dir",
			filepath.Dir(d.place.directory), size(got), size(needed))
	}
	d.say("input", "%s: %d files", source, base.files)
	d.more("packed as a layer archive of %s in %.1f s", size(base.bytes), time.Since(began).Seconds())
	d.more("%s", base.digest)
	d.say("stores", "two, in %s, with the %s driver", d.place.directory, d.place.driver)
	return base, nil
}

func (s store) importBase(base sourceTar) error {
	began := time.Now()
	if _, err := s.shale("import-layer", "--name", "base", "--file", base.path); err != nil {
		return err
	}
	seconds := time.Since(began).Seconds()
	s.d.say("import", "the archive as layer base: %.2f s, %s/s, %.0f files/s, safe on disk", seconds,
		size(int64(float64(base.bytes)/seconds)), float64(base.files)/seconds)
	return nil
}

// stack makes a writable layer on top of base, for a container, and mounts it.
func (s store) stack() (string, error) {
	began := time.Now()
	for _, command := range [][]string{{"create-image", "--name", "go:src", "base"},
		{"create-container", "--name", "work", "go:src"}} {
		if _, err := s.shale(command...); err != nil {
			return "", err
		}
	}
	mounted, err := s.shale("mount", "work")
	if err != nil {
		return "", err
	}
	mounted = strings.TrimSpace(mounted)
	s.d.say("stack", "a container on an image of it, mounted: %.0f ms", float64(time.Since(began).Microseconds())/1000)
	s.d.more("%s", mounted)
	return mounted, nil
}

// containerLayer is the ID of the layer that the container writes to.
func (s store) containerLayer() (string, error) {
	text, err := s.shale("container", "work")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if id, is := strings.CutPrefix(line, "Layer: "); is {
			return strings.TrimSpace(id), nil
		}
	}
	return "", errors.New("shale container work: no layer in what it prints")
}

func (s store) showChanges() error {
	layer, err := s.containerLayer()
	if err != nil {
		return err
	}
	began := time.Now()
	changes, err := s.shale("changes", layer)
	if err != nil {
		return err
	}
	s.d.say("changes", "%d paths, found in %.0f ms:", strings.Count(changes, "\n"),
		float64(time.Since(began).Microseconds())/1000)
	for line := range strings.Lines(changes) {
		s.d.more("%s", strings.TrimSpace(line))
	}
	for _, expected := range []string{`Modify "/fmt/print.go"`, `Delete "/sort/sort.go"`, `Delete "/testing/quick"`,
		`Add "/os/file_renamed.go"`, `Delete "/os/file.go"`, `Add "/new/deep/file"`} {
		if !strings.Contains(changes, expected+"\n") {
			return fmt.Errorf("the change list lacks %s", expected)
		}
	}
	return nil
}

func (s store) export(path string) error {
	layer, err := s.containerLayer()
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := s.shale("diff", "--zstd", "--output", path, layer); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	s.d.say("export", "the changes as %s: %s in %.0f ms", filepath.Base(path), size(info.Size()),
		float64(time.Since(began).Microseconds())/1000)
	return nil
}

// carry brings the base and the exported changes into the second store.
func (d *demo) carry(second store, base sourceTar, exported string) error {
	began := time.Now()
	if _, err := second.shale("import-layer", "--name", "base", "--file", base.path); err != nil {
		return err
	}
	if _, err := second.shale("create-layer", "--name", "work", "base"); err != nil {
		return err
	}
	if _, err := second.shale("apply-diff", "--file", exported, "work"); err != nil {
		return err
	}
	d.say("apply", "the same base and then %s in the second store: %.2f s", filepath.Base(exported),
		time.Since(began).Seconds())
	return nil
}

func (d *demo) compare(mounted string, second store) error {
	began := time.Now()
	other, err := second.shale("mount", "work")
	if err != nil {
		return err
	}
	ours, err := treeOf(d.ctx, mounted)
	if err != nil {
		return err
	}
	theirs, err := treeOf(d.ctx, strings.TrimSpace(other))
	if err != nil {
		return err
	}
	if found := differences(ours, theirs); len(found) > 0 {
		return fmt.Errorf("the trees of the two stores differ:\n    %s", strings.Join(found, "\n    "))
	}
	d.say("equal", "%d paths are the same in both stores (%.1f s):", len(ours), time.Since(began).Seconds())
	d.more("content, types, owners, modes, times, hard links and extended attributes")
	return nil
}

// replay exports the base again and compares its digest with that of the archive it came
// from.
func (d *demo) replay(s store, base sourceTar) error {
	began := time.Now()
	sum := sha256.New()
	counter := &countingWriter{}
	if err := s.stream(io.MultiWriter(sum, counter), "diff", "--uncompressed", "base"); err != nil {
		return err
	}
	seconds := time.Since(began).Seconds()
	if digest := fmt.Sprintf("sha256:%x", sum.Sum(nil)); digest != base.digest {
		return fmt.Errorf("layer base came as %s and goes out as %s", base.digest, digest)
	}
	d.say("exact", "base exports byte for byte as it came: %.2f s, %s/s", seconds,
		size(int64(float64(counter.n)/seconds)))
	d.more("%s", base.digest)
	return nil
}

// empty deletes all that a store holds, and looks whether it let go of everything.
func (s store) empty() error {
	for _, command := range [][]string{{"unmount", "--force", "work"}, {"wipe", "--yes"}, {"shutdown"}} {
		if _, err := s.shale(command...); err != nil {
			return err
		}
	}
	left, err := s.shale("layers", "--quiet")
	if err != nil {
		return err
	}
	if left != "" {
		return fmt.Errorf("layers are left after wipe: %s", left)
	}
	return nil
}

// shale runs a command of the program under show and returns what it prints.
func (s store) shale(args ...string) (string, error) {
	var out bytes.Buffer
	err := s.stream(&out, args...)
	return out.String(), err
}

func (s store) stream(stdout io.Writer, args ...string) error {
	if s.d.ctx.Err() != nil {
		return s.d.ctx.Err()
	}
	var complaint bytes.Buffer
	command := exec.CommandContext(s.d.ctx, s.d.shale, append(s.flags, args...)...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) } // and let it undo
	command.Stdout, command.Stderr = stdout, &complaint
	if err := command.Run(); err != nil {
		return fmt.Errorf("shale %s: %w\n%s", strings.Join(args, " "), err, complaint.Bytes())
	}
	return nil
}

// clean unmounts and removes whatever there is still, however far the demo got.
func (d *demo) clean() error {
	directory := d.place.directory
	for _, mounted := range mountsBelow(directory) {
		unix.Unmount(mounted, unix.MNT_DETACH)
	}
	unix.Unmount(directory, unix.MNT_DETACH) // if we put a tmpfs there
	if left := mountsBelow(directory); len(left) > 0 {
		return fmt.Errorf("mounts are left: %v", left)
	}
	return os.RemoveAll(directory)
}

// say prints one step of the story, more another line of it.
func (d *demo) say(what, format string, args ...any) {
	fmt.Printf("%-8s %s\n", what, fmt.Sprintf(format, args...))
}

func (d *demo) more(format string, args ...any) {
	fmt.Printf("           %s\n", fmt.Sprintf(format, args...))
}

// size says a number of bytes as people do.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
