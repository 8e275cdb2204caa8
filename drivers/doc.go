// Package drivers says what a storage driver is, which ones a program has, and picks one.
//
// Driver is the contract; what only some drivers can do is in capabilities.go, each an
// interface of its own. Package drivertest is the contract as tests. A program lists its
// drivers in a Registry, whose Choose follows storage.conf(5).
package drivers
