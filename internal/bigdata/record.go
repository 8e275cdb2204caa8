package bigdata

import (
	"maps"
	"slices"

	digest "github.com/opencontainers/go-digest"
)

// Index is what the record of an image or a container says of its items. Its fields point
// into the record.
type Index struct {
	Names   *[]string
	Sizes   *map[string]int64 // in bytes
	Digests *map[string]digest.Digest
}

// enter notes an item that is about to be written, in place of one that has the same key.
func (x Index) enter(item Item) {
	if item.Digest == "" {
		item.Digest = digest.Canonical.FromBytes(item.Data)
	}
	if !slices.Contains(*x.Names, item.Key) {
		*x.Names = append(*x.Names, item.Key)
	}
	x.setSize(item.Key, int64(len(item.Data)))
	*x.Digests = with(*x.Digests, item.Key, item.Digest)
}

func (x Index) setSize(key string, size int64) { *x.Sizes = with(*x.Sizes, key, size) }

// with is a copy of m with another value.
func with[V any](m map[string]V, key string, value V) map[string]V {
	next := make(map[string]V, len(m)+1)
	maps.Copy(next, m)
	next[key] = value
	return next
}
