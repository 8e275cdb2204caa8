// Package dedup has equal files of a store share their blocks.
package dedup

import (
	"context"
	"errors"
	"slices"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/dedupe"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// By says what makes Images compare two files: their size, or also the CRC-64 or the
// SHA-256 of their content.
type By = dedupe.By

// The ways to find files that may be equal. The kernel compares them byte by byte
// whichever it is.
const (
	Size   = dedupe.Size
	CRC    = dedupe.CRC
	SHA256 = dedupe.SHA256
)

// Images has equal files in the layers of the store's images share their blocks, and
// returns how many bytes they share, those included that they shared before. It takes no
// lock while it works: nothing changes for anyone but where data lies, and layers that
// are deleted meanwhile are passed over.
//
// A file system without shared blocks is errdefs.ErrUnsupported; btrfs and XFS with
// reflink have them.
func Images(ctx context.Context, s *store.Store, by By) (shared int64, err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return 0, err
	}
	var ids []string
	err = r.ViewImages(ctx, func(l *layers.ReadTx, i *images.ReadTx) error {
		all, err := i.All()
		if err != nil {
			return err
		}
		for _, image := range all {
			for _, top := range append([]string{image.TopLayer}, image.MappedLayers...) {
				chain, err := l.Chain(top)
				if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
					return err
				}
				for _, layer := range chain {
					if !layer.ReadOnly {
						ids = append(ids, layer.ID)
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	slices.Sort(ids)
	var dirs []string
	for _, id := range slices.Compact(ids) {
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
