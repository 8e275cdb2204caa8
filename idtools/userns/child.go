package userns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The names by which the program knows its two short lives in a new user namespace.
// Nobody else has a reason to be called so.
const (
	stageMapped  = "shale: wait for ID maps"
	stageCommand = "shale: become a command"
)

// connFD is the child's end of the socket to its parent.
const connFD = 3

// Child is what a program that uses Namespace calls first in main, with os.Args. It
// returns nil at once, unless the process is the first one of a new user namespace: then
// it becomes the command, or returns an error that the parent has been told already, so
// that main only has to exit.
func Child(args []string) error {
	if len(args) < 3 {
		return nil
	}
	switch args[0] {
	case stageMapped:
		return report(waitForMaps(args[1:]))
	case stageCommand:
		return report(becomeCommand(args[1], args[2:]))
	}
	return nil
}

// waitForMaps waits for the parent to map the IDs of this namespace, then executes the
// program again to be root in it: when this process started, its IDs meant nothing here,
// and so it lost its capabilities (capabilities(7), "Capabilities and execution of
// programs by root").
func waitForMaps(rest []string) error {
	var b [1]byte
	for {
		n, err := unix.Read(connFD, b[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("user namespace: wait for ID maps: %w", err)
		}
		if n == 0 {
			return errors.New("user namespace: the parent gave up")
		}
		break
	}
	const self = "/proc/self/exe"
	return &os.PathError{Op: "exec", Path: self, Err: syscall.Exec(self, append([]string{stageCommand}, rest...),
		os.Environ())}
}

// becomeCommand executes the command. The capabilities stay as they are from here on, and
// with them the death signal, which the kernel drops when a process gains some
// (commit_creds in kernel/cred.c).
func becomeCommand(path string, argv []string) error {
	runtime.LockOSThread() // the signal belongs to the thread
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("user namespace: set the death signal: %w", err)
	}
	// If the parent died before that, its end of the socket is closed.
	poll := []unix.PollFd{{Fd: connFD}}
	if _, err := unix.Poll(poll, 0); err == nil && poll[0].Revents&unix.POLLHUP != 0 {
		return errors.New("user namespace: the parent is gone")
	}
	unix.CloseOnExec(connFD)
	return &os.PathError{Op: "exec", Path: path, Err: syscall.Exec(path, argv, os.Environ())}
}

// report tells the parent about err: the number of the kernel's error, or 0, and the
// text.
func report(err error) error {
	if err == nil {
		return nil
	}
	var errno unix.Errno
	errors.As(err, &errno)
	text := strings.TrimSuffix(err.Error(), ": "+errno.Error())
	_, _ = unix.Write(connFD, fmt.Appendf(nil, "%d %s", int(errno), text)) // without a parent there is nobody to tell
	return err
}

// decodeReport is the error of a report; no report means success.
func decodeReport(report []byte) error {
	if len(report) == 0 {
		return nil
	}
	number, text, _ := strings.Cut(string(report), " ")
	if n, err := strconv.Atoi(number); err == nil && n > 0 {
		return fmt.Errorf("%s: %w", text, unix.Errno(n))
	}
	return errors.New(text)
}
