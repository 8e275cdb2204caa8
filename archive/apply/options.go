package apply

import (
	"io/fs"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/idtools"
)

// Result is what one pass over a layer stream has learned.
type Result struct {
	// CompressedDigest and CompressedSize are of the stream as it came, trailing bytes
	// included.
	CompressedDigest digest.Digest
	CompressedSize   int64
	// DiffID and DiffSize are of the tar inside.
	DiffID   digest.Digest
	DiffSize int64
	// Compression is what the stream's first bytes said.
	Compression compress.Kind
	// UIDs and GIDs are the distinct IDs in the headers, as they stand there, ascending;
	// whiteouts don't count.
	UIDs, GIDs []uint32
	// ContentSize is the sum of the sizes of the regular files written, in bytes.
	ContentSize int64
	// Entries counts the tar's members, whiteouts included.
	Entries int64
	// Root tells that one of them described the layer's root directory.
	Root bool
	// Whiteouts counts the whiteouts made in overlay's form, and OpaqueRoot tells that
	// the layer hides everything beneath it: with either, Settle has something to do.
	Whiteouts  int64
	OpaqueRoot bool
}

// Options says how the entries of a stream become files.
type Options struct {
	// IDMap translates the owners in the headers to the host's.
	IDMap idtools.Mapping
	// Owner, when not nil, is the owner of every file made, whatever the archive says;
	// IDMap translates it too.
	Owner *Owner
	// IgnoreChownErrors leaves a file's owner as it is when it can't be set.
	IgnoreChownErrors bool
	// ForceMask, when not nil, holds the permission bits of every file made; the true
	// owner and mode go into the xattr user.containers.override_stat.
	ForceMask *fs.FileMode
	// Whiteouts says what a ".wh." entry becomes.
	Whiteouts archive.WhiteoutForm
	// Limits bounds what a hostile layer can ask for; the zero value means the defaults.
	Limits archive.Limits
	// Writers is how many files are written at the same time; 0 means 2.
	Writers int
	// Progress is called now and then with the bytes read so far; nil for none. It must
	// return quickly.
	Progress func(read int64)
	// Wrote is called with the bytes of content that have been written since it was
	// called before, by all writers at the same time; nil for none. It must return
	// quickly.
	Wrote func(n int64)
}

// Owner is a user and a group, as a container sees them.
type Owner struct{ UID, GID uint32 }
