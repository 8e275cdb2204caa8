package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"golang.org/x/sys/unix"
)

// usageError is a command line that makes no sense.
type usageError struct {
	message string
	usage   string // the line to compare with
}

func (e usageError) Error() string { return e.message }

// advised is an error of which the command knows better than advice what can be done
// about it.
type advised struct {
	error
	advice string
}

func (e advised) Unwrap() error { return e.error }

// advice says what a person can do about an error, or "" when the error says it all.
func advice(err error) string {
	var usage usageError
	var known advised
	permission := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
	switch {
	case errors.As(err, &usage):
		return "usage: " + usage.usage
	case errors.As(err, &known):
		return known.advice
	case (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) && !errors.Is(err, errdefs.ErrInvalid):
		// what is invalid are limits that are too small
		return "the disk is full: `shale gc` removes what interrupted commands left, deleting images frees more"
	case permission && !errors.Is(err, errdefs.ErrInvalid) && idtools.IsRootless(os.LookupEnv):
		// of invalid input the input has to change
		return "are you the user who owns this store? `shale unshare` gives an ordinary user the rights over their own"
	case errors.Is(err, errdefs.ErrNotFound) && strings.Contains(err.Error(), "data item"):
		return "`shale list-layer-data`, `shale list-image-data` and `shale list-container-data` list what there is"
	case errors.Is(err, errdefs.ErrNotFound) && strings.Contains(err.Error(), "/etc/sub"):
		return "" // it names the file that lacks something
	case errors.Is(err, errdefs.ErrNotFound):
		return "`shale layers`, `shale images` and `shale containers` list what there is"
	case errors.Is(err, errdefs.ErrDuplicateID), errors.Is(err, errdefs.ErrDuplicateName):
		return "choose another, or delete what holds it first"
	case errors.Is(err, errdefs.ErrInUse):
		return "`shale layers --tree` shows what builds on it; `shale unmount` lets go of a mount"
	case errors.Is(err, errdefs.ErrBusy), errors.Is(err, context.DeadlineExceeded):
		return "another process is at work on it: try again in a moment"
	case errors.Is(err, errdefs.ErrReadOnly):
		return "it lies in an additional store, which is only read: change it where it was made"
	case errors.Is(err, errdefs.ErrUnsupported) && strings.Contains(err.Error(), "project quotas"):
		return "" // it says what is missing, and vfs has no limits either
	case errors.Is(err, errdefs.ErrUnsupported) && strings.Contains(err.Error(), "vfs"):
		return "`shale status` shows the driver and what it can do"
	case errors.Is(err, errdefs.ErrUnsupported) && !strings.Contains(err.Error(), "--storage-driver"):
		return "`shale status` shows the driver and what it can do; --storage-driver vfs works everywhere"
	}
	return ""
}
