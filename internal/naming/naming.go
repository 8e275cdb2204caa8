// Package naming does what layers, images and containers have in common about names:
// lists without repeats, and the three ways to change one.
package naming

import "slices"

// Change says what is done with given names.
type Change int

const (
	// Set replaces all names by the given ones.
	Set Change = iota
	// Add puts the given names before those there are.
	Add
	// Remove takes the given names away.
	Remove
)

// Apply returns what names become.
func Apply(names, given []string, change Change) []string {
	switch change {
	case Set:
		return Dedupe(given)
	case Add:
		return Dedupe(slices.Concat(given, names))
	default:
		return Dedupe(Without(names, given...))
	}
}

// Without returns names less the unwanted ones.
func Without(names []string, unwanted ...string) []string {
	var rest []string
	for _, name := range names {
		if !slices.Contains(unwanted, name) {
			rest = append(rest, name)
		}
	}
	return rest
}

// Dedupe returns names in their order, each once.
func Dedupe(names []string) []string {
	var once []string
	for _, name := range names {
		if !slices.Contains(once, name) {
			once = append(once, name)
		}
	}
	return once
}
