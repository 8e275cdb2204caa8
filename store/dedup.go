package store

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/dedupe"
	"github.com/shalestore/shale/layers"
)

// DedupBy says what makes Dedup compare two files: their size, or also the CRC-64 or the
// SHA-256 of their content.
type DedupBy = dedupe.By

// The ways to find files that may be equal. The kernel compares them byte by byte
// whichever it is.
const (
	DedupBySize   = dedupe.Size
	DedupByCRC    = dedupe.CRC
	DedupBySHA256 = dedupe.SHA256
)

// Dedup has equal files in the layers of the store's images share their blocks, and
// returns how many bytes they share, those included that they shared before. It takes no
// lock while it works: nothing changes for anyone but where data lies, and layers that
// are deleted meanwhile are passed over.
//
// A file system without shared blocks is errdefs.ErrUnsupported; btrfs and XFS with
// reflink have them.
func (s *Store) Dedup(ctx context.Context, by DedupBy) (shared int64, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	needed := map[string]bool{}
	err = r.ViewImages(ctx, func(l *layers.ReadTx, i *images.ReadTx) error {
		all, err := i.All()
		if err != nil {
			return err
		}
		for _, image := range all {
			of, err := imageLayers(l, image)
			if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
				return err
			}
			for id, layer := range of {
				needed[id] = needed[id] || !layer.ReadOnly
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	var dirs []string
	for _, id := range slices.Sorted(maps.Keys(needed)) {
		if !needed[id] {
			continue
		}
		info, err := r.Driver.Stat(ctx, id)
		if errors.Is(err, errdefs.ErrNotFound) {
			continue
		}
		if err != nil {
			return 0, err
		}
		dirs = append(dirs, info.Content)
	}
	return dedupe.Dirs(ctx, dirs, by)
}
