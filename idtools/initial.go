package idtools

import (
	"errors"
	"io/fs"
)

// EveryIDMapped reports whether this user namespace has all IDs, which only the initial
// one has unless somebody took pains.
func EveryIDMapped() (bool, error) {
	m, err := NamespaceMapping()
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // a kernel without user namespaces
	}
	return err == nil && len(m.UIDs) == 1 && m.UIDs[0].Size == 1<<32-1, err
}
