package layers

import (
	"context"
	"hash/fnv"
	"path/filepath"

	"github.com/shalestore/shale/internal/lockfile"
)

// Claim waits until nobody else, in this process or another, is at work on a new layer
// with this ID, and keeps it so until the returned function is called. Who comes second
// finds the layer there then, instead of unpacking it a second time for nothing. It is a
// courtesy among Stores: what may be done to a layer is still decided under the layer
// lock, and containers/storage knows nothing of it.
//
// A claim is a lock on one byte of a file in the run root, chosen by the ID, so nothing
// has to be made or removed for each layer. Two IDs that happen to share a byte wait for
// each other needlessly. Who holds one must not wait for another.
func (s *Store) Claim(ctx context.Context, id string) (release func() error, err error) {
	sum := fnv.New64a()
	sum.Write([]byte(id))
	lock, err := lockfile.AcquireByte(ctx, filepath.Join(s.cfg.RunDir, "importing.lock"), int64(sum.Sum64()>>2))
	if err != nil {
		return nil, err
	}
	return lock.Release, nil
}
