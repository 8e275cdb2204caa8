package layerdir

import (
	"fmt"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/xattr"
)

// OverlayNames are the attributes by which overlayfs keeps its books, in the form that
// the mount uses (userxattr: Linux 5.11).
type OverlayNames struct {
	Opaque, Redirect, Metacopy, Whiteout string
}

// OverlayNamesOf gives the names for one of the two forms.
func OverlayNamesOf(userXattr bool) OverlayNames {
	prefix := "trusted.overlay."
	if userXattr {
		prefix = "user.overlay."
	}
	return OverlayNames{prefix + "opaque", prefix + "redirect", prefix + "metacopy", prefix + "whiteout"}
}

// Marks are what overlay's attributes say of a file in an upper directory.
type Marks struct {
	Opaque bool
	// Whiteout is the form that overlays on an overlay make (Linux 6.7): a file that is
	// empty, with an attribute.
	Whiteout bool
}

// Marks looks for overlay's attributes on a file of an upper directory. It returns
// errdefs.ErrUnsupported when the file's content or place is not the upper's alone: then
// the upper cannot be read on its own.
func (n OverlayNames) Marks(r *xattr.Reader, f xattr.File) (m Marks, err error) {
	names, err := r.List(f)
	if err != nil {
		return m, err
	}
	for name := range xattr.All(names) {
		switch string(name) {
		case n.Redirect, n.Metacopy:
			return m, fmt.Errorf("attribute %s: reading the upper directory alone: %w", name, errdefs.ErrUnsupported)
		case n.Whiteout:
			m.Whiteout = true
		case n.Opaque:
			value, ok, err := r.Get(f, n.Opaque)
			if err != nil {
				return m, err
			}
			// "x" only says that the directory may hold whiteouts in attribute form
			// (Linux 6.7).
			m.Opaque = ok && string(value) == "y"
		}
	}
	return m, nil
}
