package bigdata

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/ident"
)

// Orphans lists what nobody owns in home, the directory that has one directory for each
// owner: directories that are named like an ID but whose owner doesn't exist, and files
// of writes that were interrupted, there and in the owners' directories. The caller holds
// the lock of the owners' records exclusively, so that no write is under way.
//
// Whatever is named differently belongs to someone else (format, section 0.4). A missing
// home holds nothing.
func Orphans(home string, exists func(id string) (bool, error)) ([]string, error) {
	entries, err := os.ReadDir(home)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var orphans []string
	for _, e := range entries {
		path := filepath.Join(home, e.Name())
		switch {
		case interrupted(e):
			orphans = append(orphans, path)
		case e.IsDir() && ident.IsDrawn(e.Name()):
			known, err := exists(e.Name())
			if err != nil {
				return nil, err
			}
			if !known {
				orphans = append(orphans, path)
				continue
			}
			inside, err := Interrupted(path)
			if err != nil {
				return nil, err
			}
			orphans = append(orphans, inside...)
		}
	}
	return orphans, nil
}

// Interrupted lists the files in dir that an interrupted write has left.
func Interrupted(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var left []string
	for _, e := range entries {
		if interrupted(e) {
			left = append(left, filepath.Join(dir, e.Name()))
		}
	}
	return left, nil
}

// interrupted recognizes the temporary files of package atomicfile, which
// containers/storage makes under the same name.
func interrupted(e os.DirEntry) bool {
	return e.Type().IsRegular() && strings.HasPrefix(e.Name(), ".tmp-")
}

// Strays lists the regular files in an owner's directory that are none of its items:
// those of writes that were cut off before the owner's record named them. Directories
// there belong to the owner's users.
func Strays(dir string, keys []string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	items := map[string]bool{}
	for _, key := range keys {
		if name, err := FileName(key); err == nil {
			items[name] = true
		}
	}
	var strays []string
	for _, e := range entries {
		if e.Type().IsRegular() && !items[e.Name()] && !interrupted(e) {
			strays = append(strays, filepath.Join(dir, e.Name()))
		}
	}
	return strays, nil
}

// Size returns the size of an item in bytes without opening it; errdefs.ErrNotFound when
// it is missing, errdefs.ErrInvalid when it is no file.
func Size(dir, key string) (int64, error) {
	name, err := FileName(key)
	if err != nil {
		return 0, err
	}
	info, err := os.Lstat(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return 0, errdefs.Missing{Kind: errdefs.DataItem, Ref: key}
	}
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("data item %q: not a regular file: %w", key, errdefs.ErrInvalid)
	}
	return info.Size(), nil
}
