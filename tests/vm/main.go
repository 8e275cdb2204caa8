package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/shalestore/shale/internal/testutil"
)

func main() {
	if filepath.Base(os.Args[0]) == guestName {
		guest()
	}
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: vm TEST-BINARY [ARG...]") }
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	// go test sends SIGQUIT when its time is up.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	code, err := runOrExplain(ctx, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		code = 2
	}
	os.Exit(code)
}

// runOrExplain runs a test binary with its arguments in the machine; where something to
// make one is missing, on the host, told of it.
func runOrExplain(ctx context.Context, args []string) (int, error) {
	dir, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	_, _ = testutil.InstallPeer() // SHALE_PEER names it then; tests that want it skip without
	j := job{Args: args, Dir: dir, Stdout: os.Stdout, Limit: limit(args)}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "SHALE_") && !strings.HasPrefix(v, "SHALE_TEST_CACHE=") {
			j.Env = append(j.Env, v)
		}
	}
	if os.Getenv("SHALE_VM_CONSOLE") != "" {
		j.Console = os.Stderr
	}
	code, err := run(ctx, j)
	var missing missingError
	if !errors.As(err, &missing) {
		return code, err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), testutil.VMMissing+"="+missing.Error())
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// limit is how long the machine may live: what the binary gives itself before it panics
// with all its stacks, and time to boot and say so. It is less than the minute that go
// test grants beyond the binary's own time.
func limit(args []string) time.Duration {
	const boot = 50 * time.Second
	for _, arg := range args {
		if value, ok := strings.CutPrefix(arg, "-test.timeout="); ok {
			if d, err := time.ParseDuration(value); err == nil && d > 0 {
				return d + boot
			}
		}
	}
	return 10*time.Minute + boot
}

// missingError says what this host lacks to make a machine.
type missingError string

func (e missingError) Error() string { return string(e) }
