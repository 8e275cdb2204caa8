package files

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// AdditionalFile is a file in the directory of a layer that shows one of an additional
// layer store; it holds the path of that one.
const AdditionalFile = "additionallayer"

// ReadAdditional returns the path in a layer's additionallayer file, "" for layers
// without one.
func ReadAdditional(dir string) (string, error) {
	path, err := ReadSmall(filepath.Join(dir, AdditionalFile), unix.PathMax)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil && (!filepath.IsAbs(string(path)) || filepath.Clean(string(path)) != string(path)) {
		err = openat.Damaged(filepath.Join(dir, AdditionalFile), fmt.Sprintf("%q is no absolute path", path))
	}
	return string(path), err
}

// Content is the directory with the files of the layer in dir. For a layer of an
// additional layer store it lies there, and diff is a symlink to it; any other symlink is
// errdefs.ErrCorrupt. What is written in the layer's directory is compared with where the
// stores are and never followed elsewhere.
func (h Homes) Content(dir string) (string, error) {
	home, id := filepath.Split(dir)
	rel := filepath.Join(id, "diff")
	err := openat.IsDir(home, rel)
	if err == nil || errors.Is(err, fs.ErrNotExist) { // who needs a missing one will see
		return filepath.Join(dir, "diff"), nil
	}
	shown, aerr := ReadAdditional(dir)
	if aerr != nil || shown == "" {
		return "", err
	}
	target, terr := openat.Readlink(home, rel)
	if terr != nil || target != filepath.Join(shown, "diff") {
		return "", err
	}
	if !slices.ContainsFunc(h.Stores, func(store string) bool {
		return strings.HasPrefix(shown, filepath.Clean(store)+"/")
	}) {
		return "", openat.Damaged(filepath.Join(dir, "diff"),
			fmt.Sprintf("it leads to %s, which is in no additional layer store of the configuration", target))
	}
	return target, nil
}
