package idtools

import (
	"context"

	"github.com/shalestore/shale/internal/fsat"
)

// overflowID is whom the kernel shows as the owner of what has none in a namespace
// (DEFAULT_OVERFLOWUID in linux/highuid.h).
const overflowID = 65534

// ChownTree gives everything in dir, and dir itself, the owners that it has under the
// mapping to instead of those that it has under from. See fsat.ChownTree for what is kept
// and how it fails.
//
// As in containers/storage, a container's ID that to lacks becomes 65534, the overflow
// ID; and files of 0:0 are taken to be the container's root's even when from doesn't map
// that: parents that should have been translated may not have been. Any other owner that
// from lacks is errdefs.ErrInvalid.
func ChownTree(ctx context.Context, dir string, from, to Mapping) error {
	before, err := from.Table()
	if err != nil {
		return err
	}
	after, err := to.Table()
	if err != nil {
		return err
	}
	uid := func(id uint32) (uint32, error) {
		id, err := before.uids.toContainer("user", id)
		if err != nil {
			return 0, err
		}
		if id, err = after.uids.toHost("user", id); err != nil {
			id = overflowID
		}
		return id, nil
	}
	gid := func(id uint32) (uint32, error) {
		id, err := before.gids.toContainer("group", id)
		if err != nil {
			return 0, err
		}
		if id, err = after.gids.toHost("group", id); err != nil {
			id = overflowID
		}
		return id, nil
	}
	known := func(translate func(uint32) (uint32, error)) func(uint32) (uint32, bool) {
		return func(id uint32) (uint32, bool) {
			id, err := translate(id)
			return id, err == nil
		}
	}
	return fsat.ChownTree(ctx, dir, fsat.Owners{
		File: func(u, g uint32) (uint32, uint32, error) {
			newUID, err := uid(u)
			var newGID uint32
			if err == nil {
				newGID, err = gid(g)
			}
			if err != nil && u == 0 && g == 0 {
				return to.RootPair()
			}
			return newUID, newGID, err
		},
		UID: known(uid),
		GID: known(gid),
	})
}
