package idtools_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"golang.org/x/sys/unix"
)

// The test program plays the parts that need a process of their own; the first argument after the name says which.
const helper = "idtools-test-helper"

func TestMain(m *testing.M) {
	if idtools.Child(os.Args) != nil {
		os.Exit(1)
	}
	if os.Args[0] == helper {
		os.Exit(play(os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

func play(part string, args []string) int {
	switch part {
	case "unshare": // subuid file, subgid file, command...: what a CLI does
		caller, err := idtools.CallerOf(os.LookupEnv)
		if err == nil {
			var status int
			ns := idtools.Namespace{
				Caller: caller,
				SubIDs: idtools.SubIDFiles{SubUID: args[0], SubGID: args[1]},
				Warn:   func(err error) { fmt.Fprintln(os.Stderr, "warning:", err) },
			}
			if status, err = ns.Run(context.Background(), args[2:]); err == nil {
				return status
			}
		}
		fmt.Fprintln(os.Stderr, "error:", err)
		return 125
	case "bind": // puts files over /etc/subuid and /etc/subgid of its own mount namespace, then becomes the next part as nobody
		for i, target := range []string{"/etc/subuid", "/etc/subgid"} {
			if err := unix.Mount(args[i], target, "", unix.MS_BIND, ""); err != nil {
				fmt.Fprintln(os.Stderr, target, err)
				return 124
			}
		}
		cmd := program(args[2:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		ordinary(cmd)
		cmd.Run()
		return cmd.ProcessState.ExitCode()
	case "probe":
		cmd := exec.Command("true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case "caller":
		caller, err := idtools.CallerOf(os.LookupEnv)
		rootless, err2 := caller.Rootless()
		needs, err3 := caller.NeedsUserNamespace()
		fmt.Println(caller.UID, caller.GID, rootless, needs, errors.Join(err, err2, err3))
		return 0
	}
	return 123
}

// program is this test program in another part.
func program(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{helper}, args...)
	return cmd
}

// ordinary makes root run cmd as the user nobody.
func ordinary(cmd *exec.Cmd) {
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	cmd.Dir = "/"
}

func ordinaryID() int {
	if uid := os.Geteuid(); uid != 0 {
		return uid
	}
	return 65534
}

// public is a directory that an ordinary user can read.
func public(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "idtools")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// needNamespaces skips where ordinary users may not make user namespaces.
func needNamespaces(t *testing.T) {
	t.Helper()
	cmd := program("probe")
	ordinary(cmd)
	if got := run(t, cmd); got.status != 0 {
		t.Skipf("no user namespaces for ordinary users: %s", got.stderr)
	}
}

type result struct {
	status         int
	stdout, stderr string
}

func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// unshare runs a shell script in a user namespace of an ordinary user without subordinate IDs.
func unshare(t *testing.T, script string) result {
	t.Helper()
	needNamespaces(t)
	cmd := program("unshare", "/nonexistent/subid", "/nonexistent/subid", "sh", "-c", script)
	ordinary(cmd)
	return run(t, cmd)
}

var spaces = regexp.MustCompile(` +`)

func squeeze(s string) string {
	return strings.TrimSpace(strings.ReplaceAll(spaces.ReplaceAllString(s, " "), "\n ", "\n"))
}

func TestNamespaceOfOneID(t *testing.T) {
	needNamespaces(t)
	dir := public(t)
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := program("unshare", empty, empty, "sh", "-c",
		"id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; grep CapEff /proc/self/status; mount -t tmpfs none /tmp && echo mounted")
	ordinary(cmd)
	got := run(t, cmd)
	id := ordinaryID()
	want := fmt.Sprintf("0\n0\n0 %d 1\n0 %d 1\ndeny\n", id, id)
	if out := squeeze(got.stdout); !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "\nmounted") || got.status != 0 {
		t.Errorf("status %d, printed\n%s\nwant\n%s…mounted\nstderr: %s", got.status, out, want, got.stderr)
	}
	if !strings.Contains(got.stderr, "warning:") || !strings.Contains(got.stderr, "not known") {
		t.Errorf("no word about the missing ranges: %s", got.stderr)
	}
}

// With entries in /etc/subuid and /etc/subgid, newuidmap and newgidmap map the ranges. The files are put in place in a mount namespace of
// their own.
func TestNamespaceWithSubordinateIDs(t *testing.T) {
	needNamespaces(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give an ordinary user subordinate IDs")
	}
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (package uidmap)", tool)
		}
	}
	dir := public(t)
	for _, f := range []string{"subuid", "subgid"} {
		if _, err := os.Stat("/etc/" + f); err != nil {
			t.Skipf("needs a file to put another one over: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), []byte("nobody:300000:10\nnobody:200000:65536\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := program("bind", dir+"/subuid", dir+"/subgid", "unshare", "", "", "sh", "-c",
		"id -u; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; cd "+dir+"; mount -t tmpfs none $PWD; cd $PWD; touch f; chown 5:65546 f; stat -c %u:%g f")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	got := run(t, cmd)
	maps := "0 65534 1\n1 200000 65536\n65537 300000 10\n"
	if out, want := squeeze(got.stdout), "0\n"+maps+maps+"allow\n5:65546"; out != want || got.status != 0 || strings.Contains(got.stderr, "warning:") {
		t.Errorf("status %d, printed\n%s\nwant\n%s\nstderr: %s", got.status, out, want, got.stderr)
	}
}

// When newuidmap refuses, here because the files it reads don't list the user, the command runs with one ID.
func TestHelpersThatRefuse(t *testing.T) {
	needNamespaces(t)
	if _, err := exec.LookPath("newuidmap"); err != nil {
		t.Skip("needs newuidmap (package uidmap)")
	}
	if ranges, _ := idtools.ReadRanges("/etc/subuid", fmt.Sprint(ordinaryID())); ranges != nil {
		t.Skip("the user has subordinate IDs")
	}
	dir := public(t)
	file := filepath.Join(dir, "subid")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%d:200000:65536\n", ordinaryID()), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := program("unshare", file, file, "cat", "/proc/self/uid_map")
	ordinary(cmd)
	got := run(t, cmd)
	if want := fmt.Sprintf("0 %d 1", ordinaryID()); squeeze(got.stdout) != want || got.status != 0 || !strings.Contains(got.stderr, "newgidmap") {
		t.Errorf("%+v, want %s and a warning about newgidmap", got, want)
	}
}

// Root without subordinate IDs keeps every ID it has.
func TestNamespaceOfRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	maps, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	dir := public(t)
	file := filepath.Join(dir, "subid")
	for content, want := range map[string]string{
		"":                  regexp.MustCompile(`(\d+) +\d+ +(\d+)`).ReplaceAllString(squeeze(string(maps)), "$1 $1 $2"),
		"root:100000:1000":  "0 0 1\n1 100000 1000",
		"root:100000:1000x": "",
	} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		got := run(t, program("unshare", file, file, "cat", "/proc/self/uid_map"))
		if want == "" { // a broken file must not mean more IDs than a good one would
			if got.status != 125 || !strings.Contains(got.stderr, file+":1:") {
				t.Errorf("%q: %+v", content, got)
			}
		} else if squeeze(got.stdout) != want || got.status != 0 {
			t.Errorf("%q gives %+v, want %s", content, got, want)
		}
	}
}

func TestStatusOfTheCommand(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 42": 42, "kill -KILL $$": 137, "kill -TERM $$": 143} {
		if got := unshare(t, script); got.status != want {
			t.Errorf("%q: %+v, want status %d", script, got, want)
		}
	}
	caller, err := idtools.CallerOf(func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	ns := idtools.Namespace{Caller: caller}
	if status, err := ns.Run(t.Context(), []string{"no-such-command"}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("a command that doesn't exist: %d, %v", status, err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if status, err := ns.Run(t.Context(), []string{text}); !errors.Is(err, unix.ENOEXEC) {
		t.Errorf("a command that can't be executed: %d, %v", status, err)
	}
}

// The command gets no descriptor that it wouldn't get without a namespace. (What the tests were started with may be among them.)
func TestNoDescriptorLeaks(t *testing.T) {
	const script = "echo /proc/self/fd/*"
	want := run(t, exec.Command("sh", "-c", script)).stdout
	if got := unshare(t, script); got.stdout != want || got.status != 0 {
		t.Errorf("%+v, want %s", got, want)
	}
}

// What the tools of this family look for in the environment.
func TestEnvironmentOfTheCommand(t *testing.T) {
	got := unshare(t, `echo $_CONTAINERS_USERNS_CONFIGURED $_CONTAINERS_ROOTLESS_UID $_CONTAINERS_ROOTLESS_GID $BUILDAH_ISOLATION`)
	if want := fmt.Sprintf("done %d %[1]d rootless\n", ordinaryID()); got.stdout != want {
		t.Errorf("%+v, want %s", got, want)
	}
}

// Inside, the caller is still the ordinary user, and no further namespace is needed.
func TestCallerInside(t *testing.T) {
	needNamespaces(t)
	cmd := program("caller")
	ordinary(cmd)
	if got, want := run(t, cmd).stdout, fmt.Sprintf("%d %[1]d true true <nil>\n", ordinaryID()); got != want {
		t.Errorf("outside: %s, want %s", got, want)
	}
	exe := filepath.Join(public(t), "program")
	copyProgram(t, exe)
	cmd = program("unshare", "/nonexistent/subid", "/nonexistent/subid", "bash", "-c", "exec -a "+helper+" "+exe+" caller")
	ordinary(cmd)
	if got, want := run(t, cmd), fmt.Sprintf("%d %[1]d true false <nil>\n", ordinaryID()); got.stdout != want {
		t.Errorf("inside: %+v, want %s", got, want)
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A host that forbids user namespaces is told by the name of the setting. The sysctl counts per user namespace, so that the test can
// change it in one of its own.
func TestForbiddenBySysctl(t *testing.T) {
	needNamespaces(t)
	exe := filepath.Join(public(t), "program")
	copyProgram(t, exe)
	cmd := program("unshare", "/nonexistent/subid", "/nonexistent/subid", "bash", "-c",
		"echo 0 > /proc/sys/user/max_user_namespaces || exit 99; exec -a "+helper+" "+exe+" unshare /nonexistent/subid /nonexistent/subid true")
	ordinary(cmd)
	got := run(t, cmd)
	if got.status == 99 {
		t.Skipf("can't write the sysctl in a namespace: %s", got.stderr)
	}
	if got.status != 125 || !strings.Contains(got.stderr, "user.max_user_namespaces is 0") || !strings.Contains(got.stderr, errdefs.ErrUnsupported.Error()) {
		t.Errorf("%+v", got)
	}
}

// started is a command in a namespace that has said that it runs.
func started(t *testing.T, script string) (*exec.Cmd, io.Reader) {
	t.Helper()
	needNamespaces(t)
	cmd := program("unshare", "/nonexistent/subid", "/nonexistent/subid", "sh", "-c", script)
	ordinary(cmd)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(out, ready); err != nil || string(ready) != "ready\n" {
		t.Fatalf("read %q, %v", ready, err)
	}
	return cmd, out
}

func TestSignalsReachTheCommand(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGUSR1} {
		cmd, _ := started(t, fmt.Sprintf("trap 'exit 7' %d; echo ready; while :; do read x; sleep 0.01; done", s))
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 7 {
			t.Errorf("%v: status %d", s, got)
		}
	}
}

// When the parent is killed, so is the command: nothing holds the pipe any more.
func TestCommandDiesWithItsParent(t *testing.T) {
	cmd, out := started(t, "echo ready; exec sleep 1000")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
		t.Errorf("read %q, %v", rest, err)
	}
	cmd.Wait()
}

func TestContextEndsTheCommand(t *testing.T) {
	caller, err := idtools.CallerOf(func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	needNamespaces(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		io.ReadFull(r, make([]byte, 6))
		cancel()
	}()
	ns := idtools.Namespace{Caller: caller, Stdout: w, SubIDs: idtools.SubIDFiles{SubUID: "/nonexistent/subid", SubGID: "/nonexistent/subid"}}
	if status, err := ns.Run(ctx, []string{"sh", "-c", "echo ready; exec sleep 1000"}); !errors.Is(err, context.Canceled) {
		t.Errorf("status %d, %v", status, err)
	}
}

func TestCallerOf(t *testing.T) {
	for _, tt := range []struct {
		uid, gid         string
		wantUID, wantGID uint32
		ok               bool
	}{
		{"1000", "100", 1000, 100, true},
		{"1000", "", 1000, 1000, true},
		{"0", "0", 0, 0, true},
		{"4294967294", "5", 4294967294, 5, true},
		{"-1", "0", 0, 0, false},
		{"4294967295", "0", 0, 0, false},
		{"4294967296", "0", 0, 0, false},
		{"9223372036854775808", "0", 0, 0, false},
		{"1000", "x", 0, 0, false},
		{" 1", "1", 0, 0, false},
	} {
		env := map[string]string{idtools.EnvConfigured: "done", idtools.EnvRootlessUID: tt.uid, idtools.EnvRootlessGID: tt.gid}
		c, err := idtools.CallerOf(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		if (err == nil) != tt.ok || tt.ok && c != (idtools.Caller{UID: tt.wantUID, GID: tt.wantGID, Configured: true}) {
			t.Errorf("%q, %q give %+v, %v", tt.uid, tt.gid, c, err)
		}
		if err != nil && !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%v is not ErrInvalid", err)
		}
	}
}
