package fsat

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Barrier gathers files, directories and file systems that must be on disk before
// something else happens, and syncs them with as few calls as is wise: several on one
// file system by one syncfs(2), unless so much of other people's data waits to be written
// that single syncs are over sooner. The zero Barrier is empty. It is used by one
// goroutine.
type Barrier struct {
	Gauge *Gauge // may be nil

	whole []*Syncer // to be synced as a whole whatever waits
	parts []part
	calm  []*Syncer // of the file systems that a Sync has synced as a whole
}

type part struct {
	path string
	fs   *Syncer // of its file system, where there is one at hand
	dev  uint64
	sync func() error
}

// AddFS adds all of a file system.
func (b *Barrier) AddFS(fs *Syncer) { b.whole = append(b.whole, fs) }

// AddFile adds the content of an open file, which sync syncs. The file stays open as long
// as the Barrier is in use.
func (b *Barrier) AddFile(path string, fd int, st *unix.Stat_t, sync func() error) {
	b.parts = append(b.parts, part{path, &Syncer{path, fd, st.Dev}, st.Dev, sync})
}

// AddDir adds the names in a directory, which is on the device dev.
func (b *Barrier) AddDir(path string, dev uint64) {
	if !slices.ContainsFunc(b.parts, func(p part) bool { return p.path == path }) {
		b.parts = append(b.parts, part{path, nil, dev, func() error { return SyncDir(path) }})
	}
}

// Sync returns when all that was added is on disk; the parts get there in the order in
// which they were added. Its error is final, as that of SyncFS. Then the Barrier is
// empty, but it remembers where a whole file system was synced: nothing can have piled up
// there until the next Sync of what belongs to the same change.
func (b *Barrier) Sync() error {
	whole, parts := b.whole, b.parts
	b.whole, b.parts = nil, nil
	var done []*Syncer
	for _, fs := range whole {
		if fs.in(done) != nil {
			continue
		}
		if err := fs.Sync(); err != nil {
			return err
		}
		done = append(done, fs)
	}
	for i, p := range parts {
		one := &Syncer{dev: p.dev}
		if one.in(done) != nil {
			continue
		}
		fs := one.in(b.calm)
		if fs == nil && p.fs != nil && b.Gauge.LittleWaits(p.fs) {
			fs = p.fs
		}
		if several := slices.ContainsFunc(parts[i+1:], func(o part) bool { return o.dev == p.dev }); !several ||
			fs == nil {
			if err := p.sync(); err != nil {
				return err
			}
			continue
		}
		if err := fs.Sync(); err != nil {
			return err
		}
		done = append(done, fs)
	}
	b.calm = append(b.calm, done...)
	return nil
}

// in returns the one of several that watches the same file system, or nil.
func (s *Syncer) in(several []*Syncer) *Syncer {
	for _, other := range several {
		if other.dev == s.dev {
			return other
		}
	}
	return nil
}
