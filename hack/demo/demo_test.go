package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
)

func TestMain(m *testing.M) {
	if os.Getenv("SHALE_DEMO_TEST_AS_DEMO") != "" || os.Getenv(insideVariable) != "" {
		main()
		return
	}
	testutil.Main(m)
}

// smallSource is a tree with the files that edits changes and little else, so that the
// demo is quick.
func smallSource(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"fmt/print.go", "fmt/doc.go", "fmt/scan.go", "sort/sort.go", "testing/quick/quick.go",
		"os/file.go", "io/io.go",
		"time/time.go", "net/http/server.go", "strings/strings.go", "strings/builder.go", "bufio/bufio.go"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("package "+name+"\nfunc Println() {}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// demoCommand prepares a run of the demo in a directory of its own.
func demoCommand(t *testing.T, shale string, args ...string) (command *exec.Cmd, directory string) {
	t.Helper()
	directory = t.TempDir()
	command = exec.CommandContext(t.Context(), "/proc/self/exe", append([]string{"--shale", shale, "--dir", directory},
		args...)...)
	command.Env = append(os.Environ(), "SHALE_DEMO_TEST_AS_DEMO=1")
	return command, directory
}

func nothingLeft(t *testing.T, directory string) {
	t.Helper()
	left, err := os.ReadDir(directory)
	if err != nil || len(left) > 0 {
		t.Errorf("files are left: %v %v", left, err)
	}
	if mounts := mountsBelow(directory); len(mounts) > 0 {
		t.Errorf("mounts are left: %v", mounts)
	}
}

func TestDemo(t *testing.T) {
	testutil.Root(t)
	shale, source := testutil.Shale(t), smallSource(t)
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			command, directory := demoCommand(t, shale, "--source", source, "--driver", driver)
			story, err := command.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, story)
			}
			for _, part := range []string{"input", "import", "stack", "change", "changes", "export", "apply", "equal",
				"exact", "done"} {
				if !strings.Contains("\n"+string(story), "\n"+part+" ") {
					t.Errorf("the story lacks %q:\n%s", part, story)
				}
			}
			nothingLeft(t, directory)
		})
	}
}

func TestDemoCleansUpAfterAnInterrupt(t *testing.T) {
	testutil.Root(t)
	shale, source := testutil.Shale(t), smallSource(t)
	for _, moment := range []string{"input", "import", "change", "apply"} {
		t.Run(moment, func(t *testing.T) {
			command, directory := demoCommand(t, shale, "--source", source)
			seen := &watcher{word: "\n" + moment, then: func() { command.Process.Signal(syscall.SIGINT) }}
			command.Stdout, command.Stderr = seen, seen
			command.WaitDelay = time.Minute
			err := command.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 130 {
				t.Errorf("%v\n%s", err, seen.all.String())
			}
			nothingLeft(t, directory)
		})
	}
}

// A failure is told, and leaves as little behind.
func TestDemoFails(t *testing.T) {
	testutil.Root(t)
	command, directory := demoCommand(t, "/bin/false", "--source", smallSource(t))
	story, err := command.CombinedOutput()
	if err == nil || !bytes.Contains(story, []byte("demo: shale import-layer")) {
		t.Errorf("%v\n%s", err, story)
	}
	nothingLeft(t, directory)
}

// watcher calls then as soon as word was written.
type watcher struct {
	word string
	then func()
	all  bytes.Buffer
	done bool
}

func (w *watcher) Write(b []byte) (int, error) {
	w.all.Write(b)
	if !w.done && strings.Contains("\n"+w.all.String(), w.word) {
		w.done = true
		w.then()
	}
	return len(b), nil
}
