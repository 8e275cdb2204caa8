package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/layers"
)

// readRecords reads all records of a kind; errdefs.ErrCorrupt when one can't be read.
func (s *Store) readRecords(ctx context.Context, kind string) error {
	roots, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	switch kind {
	case "layers":
		return roots.Layers.Inspect(ctx, func(tx *layers.ReadTx) error { return readAll(tx.All, tx.Contradictions) })
	case "mounts":
		return roots.Layers.CheckMounts(ctx)
	case "images":
		return roots.Images.View(ctx, func(tx *images.ReadTx) error { return readAll(tx.All, tx.Contradictions) })
	}
	return roots.Containers.View(ctx, func(tx *containers.ReadTx) error { return readAll(tx.All, tx.Contradictions) })
}

func readAll[R any](all func() ([]R, error), contradictions func() ([]catalog.Contradiction, error)) error {
	if _, err := all(); err != nil {
		return err
	}
	_, err := contradictions()
	return err
}

// lostRecords are the kinds of which records were lost, and the directories of those
// objects. What has no record then need not be garbage.
type lostRecords map[string][]string

// spares reports whether a path may belong to an image or a container whose record was
// lost.
func (l lostRecords) spares(path string) bool {
	for kind, homes := range l {
		within := func(home string) bool { return strings.HasPrefix(path, home+"/") }
		if kind != "layers" && slices.ContainsFunc(homes, within) {
			return true
		}
	}
	return false
}

// lost are the kinds with a damaged file of records, which the caller knows, and those
// whose file has nothing in it, not even "[]". Programs take that for a list without
// records (format, section 2), but none writes it; a file system that lost power may
// leave it.
func (s *Store) lost(ctx context.Context, damaged ...string) (lostRecords, error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	lost := lostRecords{}
	for _, kind := range []string{"layers", "images", "containers"} {
		var homes []string
		gone := slices.Contains(damaged, kind)
		for _, root := range []string{s.cfg.GraphRoot, s.cfg.RunRoot, s.cfg.ImageStore} {
			if root == "" {
				continue
			}
			home := filepath.Join(root, roots.Driver.Name()+"-"+kind)
			homes = append(homes, home)
			info, err := os.Lstat(filepath.Join(home, kind+".json"))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
			gone = gone || err == nil && info.Mode().IsRegular() && info.Size() == 0
		}
		if gone {
			lost[kind] = homes
		}
	}
	return lost, nil
}

// salvage keeps of a kind's records what can be read.
func (s *Store) salvage(ctx context.Context, kind string) ([]catalog.Salvaged, error) {
	roots, err := s.Roots(ctx)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "layers":
		return roots.Layers.Salvage(ctx)
	case "mounts":
		return roots.Layers.SalvageMounts(ctx)
	case "images":
		return roots.Images.Salvage(ctx)
	}
	return roots.Containers.Salvage(ctx)
}
