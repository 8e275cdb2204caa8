// Package mount turns a description of a mount into a mount.
//
// Drivers return a Spec, which is data; the layers package performs it and the containerd adapter sends it over the wire.
package mount

// Spec describes one mount. It does nothing by itself and can be printed, compared and sent.
type Spec struct {
	// Type is a file system type as /proc/filesystems names it, or "bind".
	Type string
	// Source is the directory to bind, or the text that the mount table shows as the source.
	Source string
	// Target is the absolute path to mount on. It must exist.
	Target string
	// Lower holds overlay's lower directories as absolute paths, the nearest first, none escaped.
	Lower []string
	// Upper and Work are overlay's upper and work directory; both empty for a read-only overlay.
	Upper, Work string
	// Data holds the file system's own options, each "key" or "key=value", unescaped. Lower, Upper and Work aren't among them.
	Data []string
	// Attr holds MOUNT_ATTR_* flags of mount_setattr(2): MOUNT_ATTR_RDONLY, MOUNT_ATTR_NODEV and so on.
	Attr uint64
}
