package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
)

// asShale makes the test binary behave as shale itself, for tests that need a process:
// terminals, signals, broken pipes.
const asShale = "SHALE_TEST_AS_SHALE"

func TestMain(m *testing.M) {
	if os.Getenv(asShale) != "" {
		main()
	}
	testutil.Main(m)
}

// result is what one command line did.
type result struct {
	status         int
	stdout, stderr string
}

// in runs a command line of our own grammar in this process.
func in(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return inAs(t, "shale", stdin, args...)
}

// inAs is in for a program that is called by a name of its own.
func inAs(t *testing.T, name, stdin string, args ...string) result {
	t.Helper()
	t.Setenv(asShale, "1") // for an ordinary user this becomes a process in a user namespace
	var stdout, stderr bytes.Buffer
	status := run(append([]string{name}, args...), strings.NewReader(stdin), &stdout, &stderr)
	return result{status, stdout.String(), stderr.String()}
}

// process prepares shale as a process of its own.
func process(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	// By this name an ordinary user can run it, too, who may not enter the directory
	// where go test has put it.
	command := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	command.Env = append(os.Environ(), asShale+"=1")
	return command
}

// stores are the global flags of a fresh store, which is emptied at the end of the test.
type stores struct {
	t     *testing.T
	dir   string
	flags []string
}

// newStore makes a store with the overlay driver, or the one in STORAGE_DRIVER, for a
// test that runs as root.
func newStore(t *testing.T) *stores {
	t.Helper()
	testutil.Root(t)
	driver := os.Getenv("STORAGE_DRIVER")
	if driver == "" {
		driver = "overlay"
	}
	dir := t.TempDir()
	s := &stores{t, dir, []string{"--graph", filepath.Join(dir, "root"), "--run", filepath.Join(dir, "run"),
		"--storage-driver", driver}}
	t.Cleanup(func() {
		for _, last := range [][]string{{"wipe", "--yes", "--force"}, {"shutdown", "--force"}} {
			if got := s.try(last...); got.status != 0 && !strings.Contains(got.stderr, "there is no store there") {
				t.Errorf("shale %s: %s", strings.Join(last, " "), got.stderr)
			}
		}
	})
	return s
}

// in is the same store in a part of the test.
func (s *stores) in(t *testing.T) *stores {
	part := *s
	part.t = t
	return &part
}

// try runs a command on the store and returns what it did.
func (s *stores) try(args ...string) result {
	s.t.Helper()
	return in(s.t, "", append(s.flags, args...)...)
}

// asPeer runs a command in the grammar of containers-storage.
func (s *stores) asPeer(stdin string, args ...string) result {
	s.t.Helper()
	return inAs(s.t, peerName, stdin, append(s.flags, args...)...)
}

// must runs a command that has to succeed, and returns its output.
func (s *stores) must(args ...string) string {
	s.t.Helper()
	got := s.try(args...)
	if got.status != 0 {
		s.t.Fatalf("shale %s: status %d: %s", strings.Join(args, " "), got.status, got.stderr)
	}
	return got.stdout
}

// id is the first line of what a creating command prints.
func (s *stores) id(args ...string) string {
	s.t.Helper()
	line, _, _ := strings.Cut(s.must(args...), "\n")
	return line
}

// process is a command on the store as a process of its own.
func (s *stores) process(args ...string) *exec.Cmd {
	s.t.Helper()
	return process(s.t, append(s.flags, args...)...)
}
