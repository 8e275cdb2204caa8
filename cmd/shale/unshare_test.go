package main

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
)

func TestUnshare(t *testing.T) {
	if !testutil.AsUser(t) {
		return
	}
	for _, c := range []struct {
		args   []string
		stdout string
		status int
	}{
		{[]string{"unshare", "id", "-u"}, "0\n", 0},
		{[]string{"unshare", "sh", "-c", "echo $#", "-", "-j", "--graph", "x"}, "3\n", 0},
		{[]string{"unshare", "sh", "-c", "exit 7"}, "", 7},
		{[]string{"unshare", "sh", "-c", "kill -TERM $$"}, "", 143},
		{[]string{"unshare", "nonexistent-command"}, "", 1},
	} {
		command := process(t, c.args...)
		var stdout, stderr bytes.Buffer
		command.Stdout, command.Stderr = &stdout, &stderr
		command.Run()
		if status := command.ProcessState.ExitCode(); status != c.status || stdout.String() != c.stdout {
			t.Errorf("%v: status %d, %q, %q", c.args, status, stdout.String(), stderr.String())
		}
	}
}

// A shell in the namespace decides for itself what an interrupt means.
func TestUnsharePassesSignals(t *testing.T) {
	if !testutil.AsUser(t) {
		return
	}
	command := process(t, "unshare", "sh", "-c",
		"trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, 6)
	if _, err := stdout.Read(ready); err != nil {
		t.Fatal(err)
	}
	command.Process.Signal(syscall.SIGTERM)
	var rest bytes.Buffer
	killed := time.AfterFunc(20*time.Second, func() { command.Process.Kill() })
	defer killed.Stop()
	rest.ReadFrom(stdout)
	command.Wait()
	if status := command.ProcessState.ExitCode(); status != 5 || !strings.Contains(rest.String(), "caught") {
		t.Errorf("status %d, %q", status, rest.String())
	}
}

// An ordinary user needs no word to get a namespace, and --unshare=false refuses it.
func TestCommandsEnterANamespace(t *testing.T) {
	if !testutil.AsUser(t) {
		return
	}
	dir := t.TempDir()
	flags := []string{"--graph", dir + "/root", "--run", dir + "/run", "--storage-driver", "overlay"}
	command := process(t, append(flags, "create-layer", "--name", "mine")...)
	output, err := command.CombinedOutput()
	if err != nil || len(output) != 65 {
		t.Fatalf("%v: %s", err, output)
	}
	// A mount would end with the command, and what is written below its path land
	// elsewhere.
	for _, grammar := range [][]string{nil, {storageVerb}} {
		command = process(t, append(grammar, append(flags, "mount", "mine")...)...)
		var stdout, stderr bytes.Buffer
		command.Stdout, command.Stderr = &stdout, &stderr
		if err := command.Run(); err == nil || stdout.Len() > 0 || !strings.Contains(stderr.String(), "unshare`") {
			t.Errorf("%v: %v, %q, %q", grammar, err, stdout.String(), stderr.String())
		}
	}
	command = process(t, append(flags, "--unshare=false", "mount", "mine")...)
	if output, err := command.CombinedOutput(); err == nil {
		t.Errorf("an ordinary user has mounted something: %s", output)
	}
}
