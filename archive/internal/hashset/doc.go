// Package hashset is a set of hashes.
package hashset
