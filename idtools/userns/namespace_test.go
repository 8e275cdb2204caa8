package userns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/idtools/userns"
	"golang.org/x/sys/unix"
)

func TestNamespaceOfOneID(t *testing.T) {
	needNamespaces(t)
	dir := public(t)
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := program("unshare", empty, empty, "sh", "-c",
		"id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; grep CapEff "+
			"/proc/self/status; mount -t tmpfs none /tmp && echo mounted")
	ordinary(cmd)
	got := run(t, cmd)
	id := ordinaryID()
	want := fmt.Sprintf("0\n0\n0 %d 1\n0 %d 1\ndeny\n", id, id)
	if out := squeeze(got.stdout); !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "\nmounted") ||
		got.status != 0 {
		t.Errorf("status %d, printed\n%s\nwant\n%s…mounted\nstderr: %s", got.status, out, want, got.stderr)
	}
	if !strings.Contains(got.stderr, "warning:") || !strings.Contains(got.stderr, "not known") {
		t.Errorf("no word about the missing ranges: %s", got.stderr)
	}
}

// With entries in /etc/subuid and /etc/subgid, newuidmap and newgidmap map the ranges.
// The files are put in place in a mount namespace of their own.
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
		if err := os.WriteFile(filepath.Join(dir, f), []byte("nobody:300000:10\nnobody:200000:65536\n"),
			0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := program("bind", dir+"/subuid", dir+"/subgid", "unshare", "", "", "sh", "-c",
		"id -u; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; cd "+dir+
			"; mount -t tmpfs none $PWD; cd $PWD; touch f; chown 5:65546 f; stat -c %u:%g f")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	got := run(t, cmd)
	maps := "0 65534 1\n1 200000 65536\n65537 300000 10\n"
	if out, want := squeeze(got.stdout), "0\n"+maps+maps+"allow\n5:65546"; out != want || got.status != 0 ||
		strings.Contains(got.stderr, "warning:") {
		t.Errorf("status %d, printed\n%s\nwant\n%s\nstderr: %s", got.status, out, want, got.stderr)
	}
}

// When newuidmap refuses, here because the files it reads don't list the user, the
// command runs with one ID.
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
	if want := fmt.Sprintf("0 %d 1", ordinaryID()); squeeze(got.stdout) != want || got.status != 0 ||
		!strings.Contains(got.stderr, "newgidmap") {
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
		"": regexp.MustCompile(`(\d+) +\d+ +(\d+)`).ReplaceAllString(squeeze(string(maps)),
			"$1 $1 $2"),
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
	caller, err := userns.CallerOf(func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	ns := userns.Namespace{Caller: caller}
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

// The command gets no descriptor that it wouldn't get without a namespace. (What the
// tests were started with may be among them.)
func TestNoDescriptorLeaks(t *testing.T) {
	const script = "echo /proc/self/fd/*"
	want := run(t, exec.Command("sh", "-c", script)).stdout
	if got := unshare(t, script); got.stdout != want || got.status != 0 {
		t.Errorf("%+v, want %s", got, want)
	}
}

// What the tools of this family look for in the environment.
func TestEnvironmentOfTheCommand(t *testing.T) {
	got := unshare(t,
		`echo $_CONTAINERS_USERNS_CONFIGURED $_CONTAINERS_ROOTLESS_UID $_CONTAINERS_ROOTLESS_GID $BUILDAH_ISOLATION`)
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
	cmd = program("unshare", "/nonexistent/subid", "/nonexistent/subid", "bash", "-c", "exec -a "+helper+" "+exe+
		" caller")
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

// A host that forbids user namespaces is told by the name of the setting. The sysctl
// counts per user namespace, so that the test can change it in one of its own.
func TestForbiddenBySysctl(t *testing.T) {
	needNamespaces(t)
	exe := filepath.Join(public(t), "program")
	copyProgram(t, exe)
	cmd := program("unshare", "/nonexistent/subid", "/nonexistent/subid", "bash", "-c",
		"echo 0 > /proc/sys/user/max_user_namespaces || exit 99; exec -a "+helper+" "+exe+
			" unshare /nonexistent/subid /nonexistent/subid true")
	ordinary(cmd)
	got := run(t, cmd)
	if got.status == 99 {
		t.Skipf("can't write the sysctl in a namespace: %s", got.stderr)
	}
	if got.status != 125 || !strings.Contains(got.stderr, "user.max_user_namespaces is 0") ||
		!strings.Contains(got.stderr, errdefs.ErrUnsupported.Error()) {
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
		if signal.Ignored(s) { // as under nohup(1); a shell can't trap it then
			continue
		}
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
	caller, err := userns.CallerOf(func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	needNamespaces(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		_, _ = io.ReadFull(r, make([]byte, 6))
		cancel()
	}()
	ns := userns.Namespace{Caller: caller, Stdout: w, SubIDs: idtools.SubIDFiles{SubUID: "/nonexistent/subid",
		SubGID: "/nonexistent/subid"}}
	if status, err := ns.Run(ctx, []string{"sh", "-c", "echo ready; exec sleep 1000"}); !errors.Is(err,
		context.Canceled) {
		t.Errorf("status %d, %v", status, err)
	}
}
