package usage

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"path/filepath"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/internal/atomicfile"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/layers"
)

// measured is what a layer that doesn't change was found to take on disk.
type measured struct {
	Stamp  string `json:"stamp"`
	Bytes  int64  `json:"bytes"`
	Inodes int64  `json:"inodes"`
}

// measuredFile lies in the run root, beside the table of mounts, where containers/storage
// doesn't look for anything. Whoever deletes it, or finds an older one there, only has to
// measure again.
const measuredFile = "footprints.json"

func (m meter) cacheFile() string { return filepath.Join(m.Layers.Config().RunDir, measuredFile) }

// maxMeasured bounds the file in bytes: that is some 200,000 layers.
const maxMeasured = 64 << 20

// cacheKey tells the layer from one with the same ID in another store.
func cacheKey(l layers.Layer) string {
	if !l.ReadOnly {
		return l.ID
	}
	return l.Store() + "/" + l.ID
}

// cached reads what was measured before; nothing if that isn't there, or can't be
// read: it is only a cache.
func (m meter) cached() map[string]measured {
	dir, name := filepath.Split(m.cacheFile())
	f, err := openat.Reader(dir, name)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxMeasured))
	if err != nil {
		return nil
	}
	var cache map[string]measured
	if json.Unmarshal(data, &cache) != nil {
		return nil
	}
	return cache
}

// keep writes down the results that have a stamp, if they aren't in the cache.
// Layers that are gone are left out. Where it can't be written, the next one measures
// again, and the results stay true.
func (m meter) keep(ctx context.Context, cache map[string]measured, all []layers.Layer, results []footprint,
	stamps []string) {
	now := make(map[string]measured, len(all))
	for n, layer := range all {
		key := cacheKey(layer)
		if stamps[n] != "" && results[n].Basis != BasisQuota {
			now[key] = measured{stamps[n], results[n].Bytes, results[n].Inodes}
		} else if before, known := cache[key]; known {
			now[key] = before // its stamp tells whether it is still true when the layer has come to rest
		}
	}
	if maps.Equal(now, cache) {
		return
	}
	data, err := json.Marshal(now)
	if err != nil || len(data) > maxMeasured {
		return
	}
	// The lock of the mounts tells a collection of garbage that the temporary file is
	// nobody's leftover.
	_ = m.Layers.Inspect(ctx, func(tx *layers.ReadTx) error {
		return tx.MountTable().Update(ctx, func(*catalog.MountsWriteTx) error {
			return atomicfile.Write(m.cacheFile(), 0o600, false, data)
		})
	})
}
