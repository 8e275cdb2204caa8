package bigdata

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/errdefs"
)

// Index is what the record of an image or a container says of its items. Its fields point
// into the record.
type Index struct {
	Names   *[]string
	Sizes   *map[string]int64 // in bytes
	Digests *map[string]digest.Digest
}

// Enter notes an item that is about to be written, in place of one that has the same key.
// An empty digest stands for the SHA-256 of data.
func (x Index) Enter(key string, data []byte, d digest.Digest) {
	if d == "" {
		d = digest.Canonical.FromBytes(data)
	}
	if *x.Sizes == nil {
		*x.Sizes = map[string]int64{}
	}
	if *x.Digests == nil {
		*x.Digests = map[string]digest.Digest{}
	}
	if !slices.Contains(*x.Names, key) {
		*x.Names = append(*x.Names, key)
	}
	(*x.Sizes)[key] = int64(len(data))
	(*x.Digests)[key] = d
}

// Size is the recorded size of an item in bytes, or that of its file in dir: records of
// old versions hold no sizes.
func (x Index) Size(dir, key string) (int64, error) {
	if size, ok := (*x.Sizes)[key]; ok {
		return size, nil
	}
	size, err := Size(dir, key)
	if err != nil {
		return 0, err
	}
	return size, nil
}

// Digest is the recorded digest of an item, or errdefs.ErrNotFound.
func (x Index) Digest(key string) (digest.Digest, error) {
	if d, ok := (*x.Digests)[key]; ok {
		return d, nil
	}
	return "", fmt.Errorf("digest of %w", errdefs.Missing{Kind: errdefs.DataItem, Ref: key})
}

// UserDirectory makes and returns the directory in an owner's home that belongs to the
// owner's users.
func UserDirectory(home string) (string, error) {
	dir := filepath.Join(home, "userdata")
	return dir, os.MkdirAll(dir, 0o700)
}

// Leavings lists, sorted, what Orphans finds in homes and Strays in the directories of
// those owners that exist, given with their keys. get looks for the record of an owner,
// and returns errdefs.ErrNotFound where there is none.
func Leavings(homes []string, get func(id string) error, owners iter.Seq2[string, []string]) ([]string, error) {
	var all []string
	for _, home := range homes {
		found, err := Orphans(home, func(id string) (bool, error) {
			err := get(id)
			if errors.Is(err, errdefs.ErrNotFound) {
				return false, nil
			}
			return true, err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	for dir, keys := range owners {
		found, err := Strays(dir, keys)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.Sort(all)
	return all, nil
}
