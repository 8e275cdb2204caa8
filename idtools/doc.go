// Package idtools is about user and group IDs: how those of a container map to those of
// its host, and which IDs of the host a user may give away.
//
// A Mapping is what user_namespaces(7) calls the uid_map and the gid_map together. IDs
// are translated one by one with Mapping.ToHost and Mapping.ToContainer. Every ID and
// every size is checked where it comes in: no value wraps around to another user's ID.
//
// SubIDFiles reads /etc/subuid and /etc/subgid. Package idtools/userns starts programs in
// a user namespace.
package idtools
