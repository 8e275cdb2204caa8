package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"syscall"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// The exit status of our own grammar. That of containers-storage has 0 and 1 only.
const (
	statusFailed   = 1
	statusUsage    = 2 // the command line makes no sense
	statusFindings = 3 // what was examined isn't as it should be
	statusNotFound = 4 // a layer, image, container or item that was named isn't there
	statusBusy     = 5 // something is in use, or another process is at work on it
	statusNoSpace  = 6 // the disk is full, or a quota is
)

// pipeStatus is what a shell reports for a program that dies of SIGPIPE. We end on our
// own instead, so that undo still runs.
const pipeStatus = 128 + int(syscall.SIGPIPE)

// usageError is a command line that makes no sense.
type usageError string

func (e usageError) Error() string { return string(e) }

func usageErrorf(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }

// findings is the error of a command that has done its work and found something wrong.
type findings struct{ error }

func (f findings) Unwrap() error { return f.error }

// said is the error of a command that has said on stderr, or by its output, what is
// wrong; it only sets the exit status.
type said int

func (s said) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// childStatus is the exit status of a program that shale ran in its own place.
type childStatus int

func (s childStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// exitStatus is 0 for success, 128 and the signal's number after a signal, that of the
// child when one ran in our place, and else says what kind of failure it was. Of several
// objects that failed in different ways it is statusFailed.
func exitStatus(ctx context.Context, err error, peer bool) int {
	var signalled signalError
	var child childStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &child):
		return int(child)
	case errors.As(context.Cause(ctx), &signalled):
		return 128 + int(signalled.Signal)
	case errors.Is(err, unix.EPIPE):
		return pipeStatus
	case peer:
		return statusFailed
	}
	return failureStatus(err)
}

func failureStatus(err error) int {
	if reflect.TypeOf(err) == joined { // by fmt.Errorf with several %w are several facts about one object
		status := 0
		for _, one := range err.(interface{ Unwrap() []error }).Unwrap() {
			its := failureStatus(one)
			if status != 0 && its != status {
				return statusFailed
			}
			status = its
		}
		return status
	}
	var usage usageError
	var found findings
	var known said
	switch {
	case errors.As(err, &known):
		return int(known)
	case errors.As(err, &usage):
		return statusUsage
	case errors.As(err, &found):
		return statusFindings
	case isFull(err):
		return statusNoSpace
	case errors.Is(err, errdefs.ErrNotFound):
		return statusNotFound
	case errors.Is(err, errdefs.ErrInUse), errors.Is(err, errdefs.ErrBusy):
		return statusBusy
	}
	return statusFailed
}

// joined is the type of errors about several objects.
var joined = reflect.TypeOf(errors.Join(errors.ErrUnsupported))

// isFull reports whether there was no room. What is invalid as well are limits that are
// too small.
func isFull(err error) bool {
	return (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) && !errors.Is(err, errdefs.ErrInvalid)
}
