package userns_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/idtools/userns"
	"golang.org/x/sys/unix"
)

// The test program plays the parts that need a process of their own; the first argument
// after the name says which.
const helper = "idtools-test-helper"

func TestMain(m *testing.M) {
	if userns.Child(os.Args) != nil {
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
		caller, err := userns.CallerOf(os.LookupEnv)
		if err == nil {
			var status int
			ns := userns.Namespace{
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
	case "bind":
		// puts files over /etc/subuid and /etc/subgid of its own mount namespace, then
		// becomes the next part as nobody
		for i, target := range []string{"/etc/subuid", "/etc/subgid"} {
			if err := unix.Mount(args[i], target, "", unix.MS_BIND, ""); err != nil {
				fmt.Fprintln(os.Stderr, target, err)
				return 124
			}
		}
		cmd := program(args[2:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		ordinary(cmd)
		_ = cmd.Run()
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
		caller, err := userns.CallerOf(os.LookupEnv)
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

// unshare runs a shell script in a user namespace of an ordinary user without subordinate
// IDs.
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
