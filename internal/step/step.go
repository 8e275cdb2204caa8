// Package step marks the points of an operation where a crash must do no harm.
//
// An operation calls Reached between any two changes that it makes on disk. That does
// nothing, unless the context carries a watcher: tests put one there that kills the
// process, so that every point can be tried, by name, without counting system calls.
package step

import "context"

type key struct{}

// Watch returns a context under which each Reached calls fn with the name of the step, on
// the goroutine that reached it.
func Watch(ctx context.Context, fn func(name string)) context.Context {
	return context.WithValue(ctx, key{}, fn)
}

// Reached says that the step called name is next: all changes before it have been made,
// and none after it.
func Reached(ctx context.Context, name string) {
	if fn, ok := ctx.Value(key{}).(func(string)); ok {
		fn(name)
	}
}
