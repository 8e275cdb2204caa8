// Package userns starts a command in a new user namespace without cgo, and tells for
// whom the process in one works.
//
// Namespace.Run starts it, with Child in main. The package reads no environment: what a
// parent process says through variables comes in by CallerOf, and goes out to children by
// Caller.Environ.
package userns
