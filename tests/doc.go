// Package tests runs the built binary as a black box, beside the tools that share its
// store.
package tests
