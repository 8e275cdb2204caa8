// Package errdefs names the classes of error that every Shale package returns.
//
// A class says what a caller can do about an error; the wrapped text says which object
// failed and why. Test for a class with errors.Is. Errors of the kernel stay in the
// chain, so errors.Is(err, unix.ENOSPC) works as well.
package errdefs

import "errors"

var (
	// ErrNotFound: the layer, image, container, name or key does not exist. An incomplete
	// layer counts as not existing.
	ErrNotFound = errors.New("not known")
	// ErrDuplicateID: a record with this ID exists already.
	ErrDuplicateID = errors.New("that ID is already in use")
	// ErrDuplicateName: another record holds this name.
	ErrDuplicateName = errors.New("that name is already in use")
	// ErrInUse: something else still needs the object: a child layer, an image, a
	// container, a mount.
	ErrInUse = errors.New("in use")
	// ErrBusy: another process holds what is needed just now; trying again later may
	// succeed.
	ErrBusy = errors.New("busy")
	// ErrInvalid: an argument, a setting or an input stream breaks its grammar or a
	// stated limit.
	ErrInvalid = errors.New("invalid")
	// ErrCorrupt: something the store wrote earlier can no longer be read or does not
	// match its digest.
	ErrCorrupt = errors.New("damaged")
	// ErrReadOnly: the object lives in a store that can only be read.
	ErrReadOnly = errors.New("read-only")
	// ErrUnsupported: this kernel, file system, driver or privilege level can't do what
	// was asked.
	ErrUnsupported = errors.New("not supported")
)
