package archive

// AUFSPrefix begins the names of AUFS's own files in the root: .wh..wh.plnk,
// .wh..wh.aufs, .wh..wh.orph.
const AUFSPrefix = ".wh..wh."

// AUFSLinks is where AUFS keeps the content of files that have several names. Members
// there are targets of hard links and not files of the layer.
const AUFSLinks = AUFSPrefix + "plnk"

// Names of the whiteouts in a layer tar (OCI image specification, layer.md).
const (
	WhiteoutPrefix = ".wh."
	WhiteoutOpaque = ".wh..wh..opq"
)

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
