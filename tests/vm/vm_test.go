package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// fixture makes this test binary the program that runs in the machine.
const fixture = "SHALE_VM_FIXTURE"

func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == guestName:
		guest()
	case os.Getenv(fixture) != "":
		act(os.Getenv(fixture))
	default:
		os.Exit(m.Run())
	}
}

// act is the program's behaviour.
func act(how string) {
	wd, _ := os.Getwd()
	fmt.Println("on stdout in", wd)
	fmt.Fprintln(os.Stderr, "on stderr with", os.Args[1:])
	switch how {
	case "fail":
		os.Exit(3)
	case "panic":
		_ = os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
		_ = unix.Pause()
	}
}

// What happens inside comes out: the output, the exit code, the end of the kernel, and
// time that is up.
func TestResultsComeOut(t *testing.T) {
	testutil.NeedsLong(t)
	for _, c := range []struct {
		how   string
		limit time.Duration
		code  int
		err   error
		text  string // in the error
	}{
		{how: "fail", code: 3},
		{how: "panic", err: errPanic, text: "sysrq triggered crash"},
		{how: "too slow", limit: time.Second, err: errLimit},
	} {
		t.Run(c.how, func(t *testing.T) {
			var out bytes.Buffer
			j := job{Args: []string{"", "one", "two words"}, Dir: t.TempDir(), Env: []string{fixture + "=" + c.how},
				Stdout: &out, Limit: 5 * time.Minute}
			if c.limit != 0 {
				j.Limit = c.limit
			}
			var err error
			if j.Args[0], err = os.Executable(); err != nil {
				t.Fatal(err)
			}
			code, err := run(context.Background(), j)
			var missing missingError
			if errors.As(err, &missing) {
				t.Skip("needs ", missing)
			}
			if code != c.code || !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("exit code %d, %v; want %d, %v with %q", code, err, c.code, c.err, c.text)
			}
			if c.limit != 0 {
				return
			}
			for _, line := range []string{"on stdout in " + j.Dir, "on stderr with [one two words]"} {
				if !strings.Contains(out.String(), line+"\n") {
					t.Errorf("no line %q in %q", line, out.String())
				}
			}
		})
	}
}

// A machine that can't be made is something else than one that failed, and says what to
// install.
func TestMissingToolIsNamed(t *testing.T) {
	_, err := tool("no-such-program", "its-package")
	var missing missingError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "apt-get install its-package") {
		t.Errorf("%v", err)
	}
}

func TestLimitFollowsTheTestsOwn(t *testing.T) {
	for arg, want := range map[string]time.Duration{
		"-test.timeout=1m0s": 110 * time.Second,
		"-test.timeout=0s":   650 * time.Second,
		"-test.v":            650 * time.Second,
	} {
		if got := limit([]string{"binary", arg}); got != want {
			t.Errorf("%s: %v, want %v", arg, got, want)
		}
	}
}
