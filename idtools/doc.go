// Package idtools is about user and group IDs: how those of a container map to those of
// its host, which IDs of the host a user may give away, and how to enter a user namespace
// where such a mapping holds.
//
// A Mapping is what user_namespaces(7) calls the uid_map and the gid_map together. IDs
// are translated one by one with Mapping.ToHost and Mapping.ToContainer; who translates
// many of them makes a Table first. Every ID and every size is checked where it comes in:
// no value wraps around to another user's ID.
//
// SubIDFiles reads /etc/subuid and /etc/subgid. Namespace.Run, with Child in main, starts
// a command in a new user namespace without cgo.
//
// The package reads no environment. What a parent process says through variables comes in
// by CallerOf, and goes out to children by Caller.Environ.
package idtools
