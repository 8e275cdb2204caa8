package layers

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// ParentOwners returns the owners of the directories above a mounted layer's mount point
// that the layer's ID map can't express, ascending. A layer without a map has none; one
// that isn't mounted is errdefs.ErrNotFound.
//
// Who runs in the layer's user namespace sees these directories as nobody's, and may need
// them to be searchable.
func (tx *ReadTx) ParentOwners(ctx context.Context, ref string) (uids, gids []int, err error) {
	layer, err := tx.Lookup(ref)
	if err != nil {
		return nil, nil, err
	}
	if layer.Mapping().IsIdentity() {
		return nil, nil, nil
	}
	err = tx.store.mounts.View(ctx, func(mounts *catalog.MountsTx) error {
		m, err := mounts.Get(layer.ID)
		if err != nil {
			return err
		}
		if m.Path == "" {
			return errdefs.Missing{Kind: errdefs.Mount + " of layer", Ref: layer.ID}
		}
		if m.Path, err = tx.MountPoint(ctx, m); err != nil {
			return err
		}
		uids, gids, err = foreignOwners(layer, m.Path)
		return err
	})
	return uids, gids, err
}

func foreignOwners(layer Layer, mountPoint string) (uids, gids []int, err error) {
	mapping := layer.Mapping()
	rootUID, rootGID, err := mapping.RootPair()
	if err != nil {
		return nil, nil, fmt.Errorf("layer %s: %w", layer.ID, err)
	}
	foreignUIDs, foreignGIDs := map[int]bool{}, map[int]bool{}
	for dir := filepath.Dir(mountPoint); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		for _, stat := range []func(string, *unix.Stat_t) error{unix.Stat, unix.Lstat} {
			var st unix.Stat_t
			if err := stat(dir, &st); err != nil {
				return nil, nil, &os.PathError{Op: "stat", Path: dir, Err: err}
			}
			// One ID at a time: the other is one that the map certainly has.
			if _, _, err := mapping.ToContainer(st.Uid, rootGID); err != nil {
				foreignUIDs[int(st.Uid)] = true
			}
			if _, _, err := mapping.ToContainer(rootUID, st.Gid); err != nil {
				foreignGIDs[int(st.Gid)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(foreignUIDs)), slices.Sorted(maps.Keys(foreignGIDs)), nil
}
