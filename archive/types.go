package archive

import (
	"io/fs"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/idtools"
)

// Compression is how a stream is compressed. The numbers are those of the "compression"
// field of a layer record.
type Compression int

// The known compressions. Bzip2 and Xz can only be read.
const (
	Uncompressed Compression = 0
	Bzip2        Compression = 1
	Gzip         Compression = 2
	Xz           Compression = 3
	Zstd         Compression = 4
)

// ApplyResult is what one pass over a layer stream has learned.
type ApplyResult struct {
	// CompressedDigest and CompressedSize are of the stream as it came, trailing bytes
	// included.
	CompressedDigest digest.Digest
	CompressedSize   int64
	// DiffID and DiffSize are of the tar inside.
	DiffID   digest.Digest
	DiffSize int64
	// Compression is what the stream's first bytes said.
	Compression Compression
	// UIDs and GIDs are the distinct IDs in the headers, as they stand there, ascending;
	// whiteouts don't count.
	UIDs, GIDs []uint32
	// ContentSize is the sum of the sizes of the regular files written, in bytes.
	ContentSize int64
	// Entries counts the tar's members, whiteouts included.
	Entries int64
	// Root tells that one of them described the layer's root directory.
	Root bool
}

// ChangeKind is what happened to a path.
type ChangeKind int

// The kinds of change, in the order that containers/storage numbers them.
const (
	Modified ChangeKind = iota
	Added
	Deleted
)

// Change is one line of a change list. Path is absolute within the layer: "/etc/passwd".
type Change struct {
	Path string
	Kind ChangeKind
}

// ApplyOptions says how the entries of a stream become files.
type ApplyOptions struct {
	// IDMap translates the owners in the headers to the host's.
	IDMap idtools.Mapping
	// Owner, when not nil, is the owner of every file made, whatever the archive says;
	// IDMap translates it too.
	Owner *Owner
	// IgnoreChownErrors leaves a file's owner as it is when it can't be set.
	IgnoreChownErrors bool
	// ForceMask, when not nil, is the mode of every file made; the true owner and mode go
	// into the xattr user.containers.override_stat.
	ForceMask *fs.FileMode
	// Whiteouts says what a ".wh." entry becomes.
	Whiteouts WhiteoutForm
	// Limits bounds what a hostile layer can ask for; the zero value means the defaults.
	Limits Limits
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

// WhiteoutForm is how the absence of a lower file is written down.
type WhiteoutForm int

const (
	// RemoveWhiteouts carries a whiteout out: the named file goes. For drivers that copy
	// (vfs).
	RemoveWhiteouts WhiteoutForm = iota
	// OverlayTrusted makes character devices 0:0 and trusted.overlay.opaque: overlayfs
	// with CAP_SYS_ADMIN in the initial user namespace.
	OverlayTrusted
	// OverlayUser makes character devices 0:0 and user.overlay.opaque: overlayfs mounted
	// with userxattr in a user namespace (Linux 5.11).
	OverlayUser
	// LiteralWhiteouts keeps ".wh." entries as the empty files that they are in the tar:
	// what fuse-overlayfs and other mount programs expect.
	LiteralWhiteouts
)
