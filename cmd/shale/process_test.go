package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tarOf makes a small archive; names that end in "/" are directories.
func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), ModTime: time.Unix(1700000000, 0),
			Typeflag: tar.TypeReg}
		if strings.HasSuffix(name, "/") {
			header.Typeflag, header.Mode = tar.TypeDir, 0o755
		}
		if err := tw.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// openTerminal makes a pseudo-terminal: what is written to the terminal can be read from
// the other end.
func openTerminal(t *testing.T) (end, tty *os.File) {
	t.Helper()
	end, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { end.Close() })
	if err := unix.IoctlSetPointerInt(int(end.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(end.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return end, tty
}

// onTerminal runs a command with some of its streams at a terminal, and returns what
// appeared there.
func onTerminal(t *testing.T, command *exec.Cmd, attach func(tty *os.File)) string {
	t.Helper()
	end, tty := openTerminal(t)
	attach(tty)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close() // so that the end reads EIO when the command has gone
	shown, err := io.ReadAll(end)
	if err != nil && !errors.Is(err, unix.EIO) {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Fatalf("%v: %s", err, shown)
	}
	return string(shown)
}

// slowly gives an archive in pieces, so that a progress line has reason to appear.
func slowly(t *testing.T, archive []byte) io.Reader {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	go func() {
		defer w.Close()
		for piece := range slices.Chunk(archive, max(len(archive)/4, 1)) {
			w.Write(piece)
			time.Sleep(redrawEvery + 20*time.Millisecond)
		}
	}()
	return r
}

func TestProgressOnlyAtATerminal(t *testing.T) {
	s := newStore(t)
	archive := tarOf(t, map[string]string{"large": strings.Repeat("x", 4<<20)})

	watched := s.process("import-layer", "--name", "watched")
	watched.Stdin = slowly(t, archive)
	var id bytes.Buffer
	watched.Stdout = &id
	shown := onTerminal(t, watched, func(tty *os.File) { watched.Stderr = tty })
	if !strings.Contains(shown, "importing") || !strings.Contains(shown, "B/s") ||
		!strings.HasSuffix(shown, "\r\x1b[K") {
		t.Errorf("at a terminal: %q", shown)
	}
	if id.Len() != 65 {
		t.Errorf("output: %q", id.String())
	}

	unwatched := s.process("import-layer")
	unwatched.Stdin = slowly(t, archive)
	var stderr bytes.Buffer
	unwatched.Stderr = &stderr
	if err := unwatched.Run(); err != nil || stderr.Len() > 0 {
		t.Errorf("into a pipe: %v, %q", err, stderr.String())
	}
}

func TestTablesAtATerminal(t *testing.T) {
	s := newStore(t)
	id := s.id("create-layer", "--name", "base")
	command := s.process("layers")
	shown := onTerminal(t, command, func(tty *os.File) { command.Stdout = tty })
	if !strings.Contains(shown, "LAYER") || !strings.Contains(shown, id[:12]) || strings.Contains(shown, id) {
		t.Errorf("layers at a terminal: %q", shown)
	}
	if piped := s.must("layers"); !strings.HasPrefix(piped, "LAYER") || !strings.Contains(piped, id[:12]) {
		t.Errorf("layers into a pipe: %q", piped)
	}
	if piped := s.asPeer("", "layers"); piped.stdout != id+"\n\tname: base\n" {
		t.Errorf("layers into a pipe, as containers-storage: %q", piped.stdout)
	}

	archive := s.process("diff", "base")
	end, tty := openTerminal(t)
	defer end.Close()
	archive.Stdout = tty
	var stderr bytes.Buffer
	archive.Stderr = &stderr
	if err := archive.Run(); err == nil || !strings.Contains(stderr.String(), "--output") {
		t.Errorf("an archive was written to a terminal: %v, %q", err, stderr.String())
	}
}

func TestInterruptedImportLeavesNothing(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal
		status int
		says   string
	}{{syscall.SIGINT, 130, "interrupted"}, {syscall.SIGTERM, 143, "terminated"}} {
		t.Run(c.says, func(t *testing.T) {
			s := newStore(t)
			s.must("create-layer", "--name", "bystander")
			before := paths(t, s.dir)

			archive := tarOf(t, map[string]string{"dir/": "", "dir/file": strings.Repeat("y", 1<<20),
				"more": strings.Repeat("z", 1<<20)})
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			command := s.process("import-layer", "--name", "half")
			command.Stdin = r
			var stderr bytes.Buffer
			command.Stderr = &stderr
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			r.Close()
			// All but the end: the import is at work and waits for more.
			if _, err := w.Write(archive[:len(archive)-4096]); err != nil {
				t.Fatal(err)
			}
			if err := command.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			command.Wait()
			if status := command.ProcessState.ExitCode(); status != c.status ||
				!strings.Contains(stderr.String(), "shale: import-layer: "+c.says) {
				t.Errorf("status %d, %q", status, stderr.String())
			}
			if after := paths(t, s.dir); !slices.Equal(before, after) {
				t.Errorf("left behind:\n%s\nbefore:\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
			if got := s.try("exists", "-q", "half"); got.status != 4 {
				t.Error("the half-made layer is listed")
			}
		})
	}
}

// paths lists what is below a store's directories, without the empty places that it keeps
// for temporary files.
func paths(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := filepath.Base(path)
		if base != "tmp" && base != "tempdirs" && base != "staging" {
			all = append(all, strings.TrimPrefix(path, dir))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestReaderGoesAway(t *testing.T) {
	s := newStore(t)
	archive := filepath.Join(t.TempDir(), "archive.tar")
	if err := os.WriteFile(archive, tarOf(t, map[string]string{"large": strings.Repeat("x", 4<<20)}),
		0o644); err != nil {
		t.Fatal(err)
	}
	s.must("import-layer", "--name", "large", "--file", archive)
	for _, args := range [][]string{{"diff", "large"}, {"layers"}, {"layers", "--json"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		command := s.process(args...)
		command.Stdout = w
		var stderr bytes.Buffer
		command.Stderr = &stderr
		command.Run()
		w.Close()
		if status := command.ProcessState.ExitCode(); status != pipeStatus || stderr.Len() > 0 {
			t.Errorf("%v: status %d, %q", args, status, stderr.String())
		}
	}
	if mounts := s.must("mounted", "large"); mounts != "" {
		t.Errorf("left behind: %s", mounts)
	}
}

func TestFullDisk(t *testing.T) {
	s := newStore(t)
	s.must("create-layer", "--name", "base")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	command := s.process("layers")
	command.Stdout = full
	var stderr bytes.Buffer
	command.Stderr = &stderr
	command.Run()
	if status := command.ProcessState.ExitCode(); status != 6 ||
		!strings.Contains(stderr.String(), "no space left on device") {
		t.Errorf("status %d, %q", status, stderr.String())
	}
}

// Flags may stand anywhere, unlike those of containers-storage.
func TestFlagsAnywhere(t *testing.T) {
	s := newStore(t)
	id := s.id("create-layer", "--name", "base")
	graph, run, driver := s.dir+"/root", s.dir+"/run", s.flags[5]
	for _, args := range [][]string{
		{"--graph", graph, "--run", run, "--storage-driver", driver, "exists", "--layer", "base"},
		{"--graph", graph, "--run", run, "--storage-driver", driver, "exists", "base", "--layer"},
		{"exists", "--layer", "base", "--graph", graph, "--run", run, "--storage-driver", driver},
		{"exists", "--graph", graph, "base", "--run", run, "-l", "--storage-driver", driver},
		{"-g" + graph, "exists", "-R=" + run, "base", "--storage-driver=" + driver, "-l=true"},
		{"--debug", "-g", graph, "-R", run, "-s", driver, "exists", "--debug=false", "-l", "--", "base"},
	} {
		if got := in(t, "", args...); got.status != 0 || got.stdout != "base: true\n" || got.stderr != "" {
			t.Errorf("shale %s: status %d, %q, %q", strings.Join(args, " "), got.status, got.stdout, got.stderr)
		}
	}
	if got := in(t, "", append(s.flags, "--debug", "layers")...); !strings.Contains(got.stderr, "Root: "+s.dir+
		"/root") || !strings.Contains(got.stdout, id[:12]) {
		t.Errorf("--debug: %q", got.stderr)
	}
}

func TestErrorsNameTheObject(t *testing.T) {
	s := newStore(t)
	base := s.id("create-layer", "--name", "base")
	s.must("create-layer", "--name", "child", "base")
	for _, c := range []struct {
		args   []string
		status int
		says   []string
	}{
		{[]string{"delete-layer", "base"}, 5, []string{": delete-layer: ", base, "in use", "\n  "}},
		{[]string{"create-layer", "--name", "base"}, 1, []string{": create-layer: ", "base", "already in use",
			"\n  "}},
		{[]string{"create-layer", "gone"}, 4, []string{": create-layer: ", "gone", "not known", " layers`"}},
		{[]string{"import-layer", "--file", "/nonexistent"}, 1, []string{": import-layer: ", "/nonexistent",
			"no such file"}},
		{[]string{"import-layer", "--file", "/"}, 1, []string{": import-layer: ", "is a directory"}},
		{[]string{"layer", "gone", "lost"}, 4, []string{"gone", "lost"}},
		{[]string{"delete-layer", "gone", "base"}, statusFailed, []string{"gone", base}}, // for two reasons
	} {
		for name, want := range map[string]int{"shale": c.status, peerName: 1} {
			got := inAs(t, name, "", append(s.flags, c.args...)...)
			if got.status != want {
				t.Errorf("%s %v: status %d, want %d", name, c.args, got.status, want)
			}
			for _, says := range append(c.says, name+": ") {
				if !strings.Contains(got.stderr, says) {
					t.Errorf("%s %v: %q lacks %q", name, c.args, got.stderr, says)
				}
			}
		}
	}
}

func TestCompletionOfNames(t *testing.T) {
	s := newStore(t)
	id := s.id("create-layer", "--name", "base", "--name", "bottom")
	s.must("create-image", "--bare", "--name", "based", "base")
	for _, c := range []struct {
		args []string
		want []string
		not  []string
	}{
		{[]string{"delete-layer", "b"}, []string{"base", "bottom"}, []string{"based"}},
		{[]string{"delete-image", "b"}, []string{"based"}, []string{"bottom"}},
		{[]string{"exists", "b"}, []string{"base", "bottom", "based"}, nil},
		{[]string{"layer", id[:4]}, []string{id}, nil},
		{[]string{"apply-diff", "base", "b"}, nil, []string{"base", "bottom"}},
		{[]string{"lay"}, []string{"layer", "layers"}, []string{"images"}},
		{[]string{"layers", "--tr"}, []string{"--tree"}, nil},
	} {
		got := in(t, "", append(append([]string{"__completeNoDesc"}, s.flags...), c.args...)...)
		words := strings.Fields(got.stdout)
		for _, want := range c.want {
			if !slices.Contains(words, want) {
				t.Errorf("%v: %q is not proposed: %v", c.args, want, words)
			}
		}
		for _, not := range c.not {
			if slices.Contains(words, not) {
				t.Errorf("%v: %q is proposed", c.args, not)
			}
		}
	}
}
