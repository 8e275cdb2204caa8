// Package harness drives a binary that speaks the containers-storage command line,
// Shale's or the peer's, as a black box: it runs commands on a store root, reads what
// they list, and audits what they leave on disk by the format alone. Nothing here knows
// Shale's code, so that the same story can be told of both tools.
package harness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
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

	"github.com/shalestore/shale/internal/testutil"
)

// Tool is one of the two binaries, and the words before a command in the grammar that
// both of them speak.
type Tool struct {
	Name, Path string
	Before     []string
}

// Shale is the binary under test.
func Shale(t testing.TB) Tool {
	t.Helper()
	return Tool{"shale", testutil.Shale(t), []string{"storage"}}
}

// Peer is containers-storage, which the format comes from.
func Peer(t testing.TB) Tool {
	t.Helper()
	return Tool{"peer", testutil.Peer(t), nil}
}

// Root is a store's place. Its methods may be called by several goroutines at once, as
// the tools may run.
type Root struct {
	Graph, Run string
	Driver     string   // overlay when empty
	Options    []string // --storage-opt values
}

// NewRoot lays out a root below dir. The driver's home is not bind-mounted on itself, so
// that only layers are ever mounted there.
func NewRoot(dir string) Root {
	return Root{
		Graph: filepath.Join(dir, "graph"), Run: filepath.Join(dir, "run"),
		Options: []string{"overlay.skip_mount_home=true"},
	}
}

// Command is a command of the tool on this root, not yet started. It and all it starts
// form a process group of their own, so that Kill leaves nobody.
func (r Root) Command(ctx context.Context, tool Tool, args ...string) *exec.Cmd {
	driver := r.Driver
	if driver == "" {
		driver = "overlay"
	}
	all := append(slices.Clone(tool.Before), "--graph", r.Graph, "--run", r.Run, "--storage-driver", driver)
	for _, option := range r.Options {
		all = append(all, "--storage-opt", option)
	}
	cmd := exec.CommandContext(ctx, tool.Path, append(all, args...)...)
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); name != "STORAGE_DRIVER" && name != "STORAGE_OPTS" {
			cmd.Env = append(cmd.Env, setting)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return Kill(cmd) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Kill sends SIGKILL to a started command and its whole group.
func Kill(cmd *exec.Cmd) error {
	err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// Error is a command that answered with an exit code other than 0.
type Error struct {
	Tool   string
	Args   []string
	Code   int // -1: ended by a signal
	Stderr string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s %s: exit %d: %s", e.Tool, strings.Join(e.Args, " "), e.Code, strings.TrimSpace(e.Stderr))
}

// Do runs a command and returns its standard output; an *Error when it fails.
func (r Root) Do(ctx context.Context, tool Tool, args ...string) (string, error) {
	return r.DoInput(ctx, tool, nil, args...)
}

// DoInput is Do with a standard input.
func (r Root) DoInput(ctx context.Context, tool Tool, input io.Reader, args ...string) (string, error) {
	cmd := r.Command(ctx, tool, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = &Error{tool.Name, args, exit.ExitCode(), stderr.String()}
	}
	return stdout.String(), err
}

// Must runs a command that has to succeed and returns its output without the last
// newline.
func (r Root) Must(t testing.TB, tool Tool, args ...string) string {
	t.Helper()
	out, err := r.Do(t.Context(), tool, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(out, "\n")
}

// Layer is what both tools tell of a layer in JSON, as far as the stories here look at
// it.
type Layer struct {
	ID               string         `json:"id"`
	Names            []string       `json:"names"`
	Parent           string         `json:"parent"`
	CompressedDigest string         `json:"compressed-diff-digest"`
	DiffDigest       string         `json:"diff-digest"`
	DiffSize         int64          `json:"diff-size"`
	Flags            map[string]any `json:"flags"`
}

// Layers lists the layers as the tool sees them.
func (r Root) Layers(ctx context.Context, tool Tool) ([]Layer, error) {
	out, err := r.Do(ctx, tool, "layers", "-j")
	if err != nil {
		return nil, err
	}
	return decodeLayers(tool.Name+" layers -j", []byte(out))
}

// Records lists the layers with all that their records say, as JSON gives it.
func (r Root) Records(ctx context.Context, tool Tool) (records []map[string]any, err error) {
	out, err := r.Do(ctx, tool, "layers", "-j")
	if err != nil {
		return nil, err
	}
	return records, json.Unmarshal([]byte(out), &records)
}

func decodeLayers(what string, data []byte) ([]Layer, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	var found []Layer
	if err := json.Unmarshal(data, &found); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return found, nil
}

// Digest exports a layer uncompressed and returns the digest of the stream as "sha256:…".
func (r Root) Digest(ctx context.Context, tool Tool, id string) (string, error) {
	cmd := r.Command(ctx, tool, "diff", "-u", id)
	sum := sha256.New()
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = sum, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = &Error{tool.Name, []string{"diff", "-u", id}, exit.ExitCode(), stderr.String()}
	}
	return fmt.Sprintf("sha256:%x", sum.Sum(nil)), err
}

// FileDigest is the digest of a file as "sha256:…".
func FileDigest(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	return fmt.Sprintf("sha256:%x", sum.Sum(nil)), err
}
