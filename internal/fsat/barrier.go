package fsat

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Barrier gathers files, directories and file systems that must be on disk before something else happens, and syncs them with as few calls as
// is wise: several on one file system by one syncfs(2), unless so much of other people's data waits to be written that single syncs are over sooner. The zero Barrier is
// empty. It is used by one goroutine.
type Barrier struct {
	whole []*Syncer // to be synced as a whole whatever waits
	parts []part
	calm  []uint64 // devices that a Sync has synced as a whole
}

type part struct {
	path string
	dev  uint64
	sync func() error
}

// Syncable is an open file that knows how to sync its content.
type Syncable interface {
	Stat() *unix.Stat_t
	Path() string
	Sync() error
}

// AddFS adds all of a file system.
func (b *Barrier) AddFS(fs *Syncer) { b.whole = append(b.whole, fs) }

// AddFile adds the content of an open file.
func (b *Barrier) AddFile(f Syncable) {
	b.parts = append(b.parts, part{path: f.Path(), dev: f.Stat().Dev, sync: f.Sync})
}

// AddDir adds the names in a directory, which is on the device dev.
func (b *Barrier) AddDir(path string, dev uint64) {
	if !slices.ContainsFunc(b.parts, func(p part) bool { return p.path == path }) {
		b.parts = append(b.parts, part{path: path, dev: dev, sync: func() error { return SyncDir(path) }})
	}
}

// Sync returns when all that was added is on disk; the parts get there in the order in which they were added. Its error is final, as that of SyncFS. Then the Barrier is
// empty, but it remembers where a whole file system was synced: nothing can have piled up there until the next Sync of what belongs to the same change.
func (b *Barrier) Sync() error {
	whole, parts := b.whole, b.parts
	b.whole, b.parts = nil, nil
	var done []uint64 // devices
	for _, fs := range whole {
		if slices.Contains(done, fs.dev) {
			continue
		}
		if err := fs.Sync(); err != nil {
			return err
		}
		done = append(done, fs.dev)
	}
	for i, p := range parts {
		if slices.Contains(done, p.dev) {
			continue
		}
		several := slices.ContainsFunc(parts[i+1:], func(o part) bool { return o.dev == p.dev })
		if !several || !slices.Contains(b.calm, p.dev) && !littleWaits(p.dev) {
			if err := p.sync(); err != nil {
				return err
			}
			continue
		}
		if err := SyncFS(p.path); err != nil {
			return err
		}
		done = append(done, p.dev)
	}
	b.calm = append(b.calm, done...)
	return nil
}
