// Package idtools translates user and group IDs between containers and their host.
package idtools
