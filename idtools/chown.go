package idtools

import (
	"context"
	"errors"

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
	if err := errors.Join(from.Validate(), to.Validate()); err != nil {
		return err
	}
	move := func(from, to []Map, what string) func(uint32) (uint32, error) {
		return func(id uint32) (uint32, error) {
			inside, err := toContainer(from, what, id)
			if err != nil {
				return 0, err
			}
			if id, err = toHost(to, what, inside); err != nil {
				id = overflowID
			}
			return id, nil
		}
	}
	uid, gid := move(from.UIDs, to.UIDs, "user"), move(from.GIDs, to.GIDs, "group")
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
